"""``fedloom approve``: the answer that a run waits for."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.run import for_prefect
from deployments.cli.screen import fail, out, reasons_for
from deployments.cli.stack import require_up

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

    from fedcore.decisions import Question


def approve(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Id of the run, its beginning, or its name.")
    ],
    why: Annotated[str, typer.Option(help="The reason, for those who ask later.")],
    who: Annotated[
        str | None, typer.Option(help="Who decides; by default the user who is logged in.")
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            "--drop",
            metavar="CLIENT",
            help="Leave it out of all later rounds; repeatable.",
        ),
    ] = None,
    stop: Annotated[
        bool, typer.Option("--stop", help="End the run; what is done is kept.")
    ] = False,
) -> None:
    """Answer a run that waits for a decision: approve it, drop clients and go on, or stop it.

    It is what Resume on the run's page does. Decision, who, when and why are kept in the run's
    chain.

    Examples:

        fedloom approve 1c0076ac --who 'A. Smith' --why 'findings are known'

        fedloom approve 1c0076ac --drop client-003 --why 'mislabelled' --who 'A. Smith'

        fedloom approve 1c0076ac --stop --why 'wrong data set'
    """
    if stop and drop:
        fail("--stop ends the run, so that --drop changes nothing; give one of them.")
    stack = for_prefect(require_up())

    from prefect.client.orchestration import get_client

    from fedcore.decisions import Answer, AnswerRefused, Verdict, check_answer
    from tasks import home
    from tasks.runs import RunNotFound, find_run

    verdict = Verdict.STOP if stop else Verdict.DROP if drop else Verdict.APPROVE
    answer = Answer(verdict, getpass.getuser() if who is None else who, why, tuple(drop or ()))
    with reasons_for(RunNotFound, AnswerRefused), get_client(sync_client=True) as client:
        found = find_run(run, home.store())
        flow_run = found.flow_run or fail(f"Prefect knows no run {found.id}.")
        question = waiting_for(client, flow_run)
        check_answer(question, answer)
        given: dict[str, Any] = {"decision": verdict.value, "who": answer.who, "why": why}
        if drop:
            given["clients"] = drop
        response = client.resume_flow_run(flow_run.id, run_input=given)
        if response.status.value != "ACCEPT":
            fail(f"Prefect did not take it: {getattr(response.details, 'reason', response.status)}")
    out.print(f"{flow_run.name}: {verdict.value}")
    out.print(f"Run      {stack.flow_run_url(str(flow_run.id))}", soft_wrap=True)


def waiting_for(client: SyncPrefectClient, flow_run: FlowRun) -> Question:
    """What a run asks; ends the command when it asks nothing."""
    import json

    from fedcore.decisions import Question

    state: Any = flow_run.state
    key = state.state_details.pause_key if state.is_paused() else None
    if not key or not state.state_details.run_input_keyset:
        way_out = " It is only paused: fedloom run --resume." if state.is_paused() else ""
        fail(f"run {flow_run.id} waits for no decision: it is {state.name}.{way_out}")
    asked = json.loads(client.read_flow_run_input(flow_run.id, f"suspended-{key}-question"))
    return Question(**{**asked, "clients": tuple(asked["clients"])})
