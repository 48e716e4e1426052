"""Follow a flow run to its end: its state from Prefect's API, its progress from the event log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from rich.live import Live

from deployments.cli.eta import planned_seconds, remaining_seconds
from deployments.cli.progress import narrate, render
from deployments.cli.screen import err, out
from deployments.stack.credentials import authorization
from deployments.stack.stack import Stack, StackError
from fedcore.events import WAITING
from fedcore.snapshot import Snapshot, advance

if TYPE_CHECKING:
    from fedcore.events import Event

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
POLL_SECONDS = 0.5
# A server that starts again, or a disk that writes for a minute, is no reason to look away.
SILENCE_SECONDS = 180.0
# A worker asks for work every 2 s and needs some seconds to start a process.
LONG_WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class FlowRun:
    """What Prefect's API says of a flow run; ``resumes`` is the run that it went on with."""

    id: str
    name: str
    state_type: str
    state_name: str
    message: str
    seconds: float
    resumes: str = ""

    @property
    def is_final(self) -> bool:
        """Whether it ended, well or not."""
        return self.state_type in FINAL

    @property
    def reason(self) -> str:
        """Why it is in this state, in one line."""
        text = " ".join(self.message.split()).removeprefix("Flow run encountered an exception: ")
        return text or "Prefect gives no reason; see the run's logs."


class ServerSilent(StackError):
    """Prefect's server does not answer."""


def read_flow_run(stack: Stack, flow_run_id: str) -> FlowRun:
    """The flow run, now.

    Raises:
      ServerSilent: the server does not answer.
      StackError: it does not know the run.
    """
    try:
        answer = httpx.get(
            f"{stack.prefect_api_url}/flow_runs/{flow_run_id}",
            headers=authorization(stack),
            timeout=30,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        raise ServerSilent(
            f"Prefect at {stack.prefect_ui_url} does not answer ({error!r}). `fedloom stack status`"
        ) from error
    if not answer.is_success:
        raise StackError(f"Prefect knows no flow run {flow_run_id!r} ({answer.status_code}).")
    value: dict[str, Any] = answer.json()
    state = value.get("state") or {}
    start = (value.get("parameters") or {}).get("start") or {}
    return FlowRun(
        id=value["id"],
        name=value["name"],
        state_type=state.get("type", "SCHEDULED"),
        state_name=state.get("name", "Scheduled"),
        message=state.get("message") or "",
        seconds=value.get("total_run_time") or value.get("estimated_run_time") or 0.0,
        resumes=start["run"] if start.get("kind") == "resume" else "",
    )


def watch(stack: Stack, flow_run_id: str) -> Iterator[tuple[FlowRun, list[Event]]]:
    """The run and its new events, again and again, until it ended; a server that falls silent for
    some minutes is waited for.

    Raises:
      ServerSilent: it did not come back.
      EventLogUnavailable: the log cannot be read.
    """
    from deployments.cli.events import bring_in
    from tasks import home

    log, after = home.event_log(stack.home), ""
    run = read_flow_run(stack, flow_run_id)
    heard, is_silent = time.monotonic(), False
    while True:
        # After the state: the last events of a run that ended are there.
        if run.is_final:
            bring_in(log, home.spool(stack.home))
        events = log.history(flow_run_id, after=after)
        after = events[-1].event_id if events else after
        yield run, events
        if run.is_final:
            return
        time.sleep(POLL_SECONDS)
        try:
            run = read_flow_run(stack, flow_run_id)
            heard, is_silent = time.monotonic(), False
        except ServerSilent as silence:
            if time.monotonic() - heard > SILENCE_SECONDS:
                raise
            if not is_silent:
                err.print(f"{silence} Waiting for it; the run itself goes on.", soft_wrap=True)
            is_silent = True


def follow_run(stack: Stack, flow_run_id: str) -> tuple[FlowRun, Snapshot]:
    """Show the run until it ended: live on a terminal, a line per stage and round elsewhere."""
    begun, run, progress = time.monotonic(), read_flow_run(stack, flow_run_id), Snapshot()
    planned: float | None = None
    told = ""
    live = Live(console=out, refresh_per_second=4, transient=True)
    with live if out.is_terminal else nullcontext():
        for run, events in watch(stack, flow_run_id):
            seconds = time.monotonic() - begun
            if run.state_name == "Suspended" and run.message != told:
                told = run.message
                out.print(told, soft_wrap=True)
            for event in events:
                if event.status == WAITING:
                    out.print(event.message, soft_wrap=True)
                earlier, progress = progress, advance(progress, [event])
                if not out.is_terminal:
                    for line in narrate(earlier, progress, seconds):
                        print(line, flush=True)
            if planned is None and out.is_terminal and progress.stage == "rounds":
                planned = planned_seconds(flow_run_id)
            left = remaining_seconds(progress, planned)
            live.update(render(progress, seconds, state=_state(run, seconds), remaining=left))
    return run, progress


def _state(run: FlowRun, seconds: float) -> str:
    if run.state_type in {"SCHEDULED", "PENDING"} and seconds > LONG_WAIT_SECONDS:
        return f"{run.state_name}: does the worker answer? fedloom stack status"
    return run.state_name
