"""``fedloom run --resume``, ``--extend`` and ``--fork``: runs that begin with what is finished."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deployments.cli.screen import fail, out, reasons_for

if TYPE_CHECKING:
    from fedcore.config import RunConfig
    from tasks.runs import Found


@dataclass(frozen=True)
class Again:
    """What was asked for: one of ``resume``, ``extend`` and ``fork`` names a run.

    Attributes:
      rounds: of an extension, in all.
      at_round: of a fork.
      changes: of the configuration, by dotted key.
      dry_run: stop before the first round.
    """

    resume: str
    extend: str
    rounds: int
    fork: str
    at_round: int
    changes: Mapping[str, Any]
    dry_run: bool

    def start(self, run_id: str) -> dict[str, Any]:
        """The flow's parameter ``start``."""
        if self.resume:
            return {"kind": "resume", "run": run_id}
        if self.extend:
            return {"kind": "extend", "run": run_id, "rounds": self.rounds}
        return {"kind": "fork", "run": run_id, "at_round": self.at_round}


def again(asked: Again, *, in_process: bool, detach: bool) -> None:
    """Do it, here or through the stack."""
    fixed = [key for key in asked.changes if not key.startswith("speed.")]
    if asked.resume and fixed:
        fail(
            f"-p {fixed[0]} cannot change a run that goes on with its own configuration; --fork it "
            "at its last round instead."
        )
    if in_process:
        _here(asked)
    else:
        _through_stack(asked, detach=detach)


def _through_stack(asked: Again, *, detach: bool) -> None:
    from deployments.cli.run import ready_stack, show_and_follow, start_run
    from deployments.registration import deployment_of
    from fedcore.config import ConfigError

    stack = ready_stack()
    from fedcore.chain import Chain, ChainBroken
    from fedcore.fork import ForkRefused, check_round
    from tasks import home
    from tasks.runs import RunNotFound, find_run
    from tasks.start import StartRefused, header_of

    with reasons_for(RunNotFound, StartRefused, ForkRefused, ConfigError, ChainBroken):
        found = find_run(asked.resume or asked.extend or asked.fork, home.store())
        if asked.resume and found.flow_run is not None:
            if asked.changes or asked.dry_run:
                fail(f"run {found.id} goes on as it was asked for; leave out -p and --dry-run.")
            flow_run_id, config = _wake(found), None
        else:
            config = _config(asked, header_of(found))
            if asked.fork:
                done = sum(1 for _ in Chain(home.store(), found.id).records())
                check_round(found.id, done, asked.at_round)
            parameters: dict[str, Any] = {"start": asked.start(found.id)}
            parameters["overrides"] = dict(asked.changes)
            if asked.dry_run:
                parameters["dry_run"] = True
            flow_run_id = start_run(deployment_of(config), parameters)
        config = config or _config(asked, header_of(found))
    show_and_follow(stack, flow_run_id, config, detach=detach)


def _config(asked: Again, header: Mapping[str, Any]) -> RunConfig:
    """The configuration that the run will have; refused here rather than by the worker."""
    from fedcore.fork import changed, more_rounds
    from fedcore.plan import RunPlan

    before = RunPlan.from_header(header).config
    changes = dict(asked.changes)
    if asked.extend:
        changes |= more_rounds(before, asked.extend, asked.rounds)
    return changed(before, changes, asked.at_round)


def _wake(found: Found) -> str:
    """Resume of a paused flow run, Retry of one that failed, crashed or was cancelled."""
    from prefect.client.orchestration import get_client
    from prefect.states import AwaitingRetry

    flow_run: Any = found.flow_run
    state, run = flow_run.state, flow_run.id
    kind = state.type.value
    if kind == "PAUSED" and state.state_details.run_input_keyset:
        fail(f"run {run} waits for a decision: {state.message}")
    if kind == "COMPLETED":
        fail(
            f"run {run} is complete. More rounds: fedloom run --extend {run} --rounds N; other "
            f"settings: fedloom run --fork {run} --at-round R"
        )
    if kind not in {"PAUSED", "FAILED", "CRASHED", "CANCELLED"}:
        fail(f"run {run} is {state.name}; there is nothing to resume. fedloom follow {run}")
    with get_client(sync_client=True) as client:
        if kind == "PAUSED":
            answer = client.resume_flow_run(run)
        else:
            answer = client.set_flow_run_state(run, AwaitingRetry(message="Resumed by fedloom."))
    if answer.status.value != "ACCEPT":
        fail(f"Prefect did not take it: {getattr(answer.details, 'reason', answer.status)}")
    out.print(f"Run {run} was {state.name}; it goes on.")
    return str(run)


def _here(asked: Again) -> None:
    from deployments.cli.in_process import IN_PROCESS, go_on_here, show_plan
    from fedcore.chain import ChainBroken
    from fedcore.config import ConfigError, make_config
    from fedcore.fork import extend, fork
    from fedcore.run import begun
    from tasks import home
    from tasks.runs import RunNotFound, find_run

    store = home.store()
    with reasons_for(RunNotFound, ConfigError, ChainBroken, LookupError, ValueError):
        wanted = asked.resume or asked.extend or asked.fork
        found = find_run(wanted, store, ask_prefect=False).id
        run_id = f"{IN_PROCESS}{uuid.uuid4()}"
        if asked.resume:
            plan, chain = begun(store, found)
        elif asked.extend:
            plan, chain = extend(store, found, asked.rounds, run_id, asked.changes)
        else:
            plan, chain = fork(store, found, asked.at_round, asked.changes, run_id)
    if asked.dry_run:
        show_plan(plan, chain)
    else:
        speed = {key: value for key, value in asked.changes.items() if key.startswith("speed.")}
        with reasons_for(ConfigError):
            go_on_here(plan, chain, make_config({}, speed).speed.workers)
