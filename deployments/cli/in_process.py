"""``fedloom run --in-process``: fedcore alone."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from deployments.cli.asking import asking
from deployments.cli.progress import narrate, rounds_table
from deployments.cli.screen import out, reasons_for

if TYPE_CHECKING:
    from fedcore.chain import Chain
    from fedcore.config import RunConfig
    from fedcore.engines.engine import ClientEngine
    from fedcore.events import Emit, Fact
    from fedcore.plan import RunPlan
    from fedcore.run import RunResult


IN_PROCESS = "local-"  # how the ids of these runs begin


def run_here(config: RunConfig) -> None:
    """Run the configuration in this process and show its rounds and its final digest."""
    from fedcore.privacy.owner import Owner
    from fedcore.run import run_federated
    from tasks import home

    # A chain belongs to one run; what an earlier one trained comes from the memo.
    run_id = f"{IN_PROCESS}{uuid.uuid4()}"
    with _telling(run_id) as tell, engine_here(config.speed.workers) as engine:
        _, result = run_federated(
            config,
            store=home.store(),
            engine=engine,
            run_id=run_id,
            data_folder=home.data_folder(),
            emit=tell,
            ask=asking(run_id),
            owner=Owner(home.privacy()),
        )
    _show(config, result)


def go_on_here(plan: RunPlan, chain: Chain, workers: int) -> None:
    """Do the rest of a run that has begun, in this process and so many worker processes."""
    from fedcore.privacy.owner import Owner
    from fedcore.run import go_on
    from tasks import home

    with _telling(chain.run_id) as tell, engine_here(workers) as engine:
        owner = Owner(home.privacy())
        result = go_on(plan, chain, engine, tell, asking(chain.run_id), owner)
    _show(plan.config, result)


def plan_here(config: RunConfig) -> None:
    """Audit, divide and plan; train nothing."""
    from fedcore.audit.audit import audit, require_passed
    from fedcore.run import begin
    from tasks import home

    run_id = f"{IN_PROCESS}{uuid.uuid4()}"
    with _reasons():
        dataset = config.data.load(home.data_folder())
        report = require_passed(audit(dataset, config.audit))
        plan, chain = begin(config, dataset, report, home.store(), run_id)
    show_plan(plan, chain)


def show_plan(plan: RunPlan, chain: Chain) -> None:
    """What a run would do, and how to do it."""
    from fedcore.questions import warnings_of

    for warning in warnings_of(chain):
        print(f"warning: {warning}", flush=True)
    done = sum(1 for _ in chain.records())
    out.print(f"run           {chain.run_id}, planned; nothing was trained", soft_wrap=True)
    out.print(f"rounds        {done} finished, {plan.config.rounds.count} in all")
    for client in plan.federation.ids:
        sizes = plan.federation.clients[client].sizes
        told = ", ".join(f"{split} {size}" for split, size in sizes.items())
        out.print(f"{client:<13} {told}")
    out.print(f"config digest {plan.config.digest}", soft_wrap=True)
    out.print(f"train it      fedloom run --resume {chain.run_id} --in-process", soft_wrap=True)


@contextmanager
def _telling(run_id: str) -> Iterator[Emit]:
    """Facts go to the event log and are shown; what goes wrong ends the command with its reason."""
    from fedcore.event_sink import EventSink
    from fedcore.snapshot import Snapshot, advance
    from tasks import home

    begun, progress = time.monotonic(), Snapshot()

    def tell(fact: Fact) -> None:
        nonlocal progress
        if fact.status == "warning":
            print(f"warning: {fact.message}", flush=True)
        earlier, progress = progress, advance(progress, [sink.tell(fact)])
        for line in narrate(earlier, progress, time.monotonic() - begun):
            print(line, flush=True)

    with _reasons(), EventSink(home.event_log(), run_id, home.spool(), warn=_warn) as sink:
        yield tell
    if out.is_terminal and progress.lines:
        out.print(rounds_table(progress.lines))


def _reasons() -> AbstractContextManager[None]:
    return reasons_for(ValueError, RuntimeError, LookupError, OSError)


def _show(config: RunConfig, result: RunResult) -> None:
    out.print(f"run           {result.run_id}")
    out.print(f"model of      round {result.chosen.round} of {len(result.records)}")
    for split, measured in result.evaluation.items():
        for name, value in measured["overall"].items():
            if name != "num_examples":
                out.print(f"{f'{split} {name}':<24} {value:.4f}")
    out.print(f"config digest {config.digest}", soft_wrap=True)
    out.print(f"final digest  {result.final_digest}", soft_wrap=True)


def _warn(message: str) -> None:
    print(f"warning: {message}", flush=True)


@contextmanager
def engine_here(workers: int) -> Iterator[ClientEngine]:
    """The engine with so many worker processes; 0 works in this one."""
    from fedcore.privacy.owner import Owner
    from tasks import home

    owner = Owner(home.privacy())
    if workers == 0:
        from fedcore.engines.in_process import InProcessEngine

        yield InProcessEngine(home.store(), home.cache(), owner)
        return
    from fedcore.engines.pooled import PooledEngine
    from fedcore.training.pool import WorkerPool

    with WorkerPool(workers) as pool:
        yield PooledEngine(home.store().url, home.cache(), pool, owner)
