"""``fedloom pause`` and ``fedloom cancel``: what the buttons on a page of a run do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deployments.cli.run import for_prefect
from deployments.cli.screen import fail, out, reasons_for
from deployments.cli.stack import require_up

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

Run = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run, its beginning, or a name.")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Return when its process has ended, or at once.")
]

POLL_SECONDS = 0.5


def pause(run: Run, wait: Wait = True) -> None:
    """Pause a run between two client tasks: finished work stays, its process ends.

    It waits as long as you like; `fedloom run --resume RUN` goes on with the next client.

    Example: `fedloom pause 1c0076ac`
    """
    _ask(run, "Suspended", wait, "paused. It goes on with: fedloom run --resume {}")


def cancel(run: Run, wait: Wait = True) -> None:
    """Cancel a run: its processes end, finished client work stays.

    `fedloom run --resume RUN` takes it up again where it was.

    Example: `fedloom cancel 1c0076ac`
    """
    _ask(run, "Cancelling", wait, "cancelled. It can go on with: fedloom run --resume {}")


def _ask(run: str, wanted: Literal["Suspended", "Cancelling"], wait: bool, told: str) -> None:
    stack = for_prefect(require_up())  # before anything of Prefect is imported

    from prefect import states
    from prefect.client.orchestration import get_client

    from tasks import home
    from tasks.runs import RunNotFound, find_run

    with reasons_for(RunNotFound), get_client(sync_client=True) as client:
        found = find_run(run, home.store())
        flow_run = found.flow_run or fail(f"Prefect knows no run {found.id}.")
        answer = client.set_flow_run_state(flow_run.id, getattr(states, wanted)())
        if answer.status.value != "ACCEPT":
            reason = getattr(answer.details, "reason", None) or answer.status.value
            fail(f"{flow_run.name} is {_state_name(flow_run)}; nothing was changed. {reason}")
        if wait:
            _wait_until_quiet(client, flow_run.id, stack.home)
    out.print(f"{flow_run.name}: {told.format(str(flow_run.id)[:8])}", soft_wrap=True)
    out.print(stack.flow_run_url(str(flow_run.id)), soft_wrap=True)


def _state_name(flow_run: FlowRun) -> str:
    return str(flow_run.state_name or "new").lower()


def _wait_until_quiet(client: SyncPrefectClient, flow_run_id: UUID, home: Path) -> None:
    """Until the server says what was asked and no process on this machine works for the run."""
    from deployments.stack.recovery import processes_of_runs

    while True:
        state = client.read_flow_run(flow_run_id).state
        is_settled = state is not None and (state.is_paused() or state.is_final())
        if is_settled and str(flow_run_id) not in processes_of_runs(home):
            return
        time.sleep(POLL_SECONDS)
