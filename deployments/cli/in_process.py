"""``fedloom run --in-process``: fedcore alone."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deployments.cli.progress import narrate, rounds_table
from deployments.cli.screen import out, reasons_for

if TYPE_CHECKING:
    from fedcore.config import RunConfig
    from fedcore.engines.engine import ClientEngine
    from fedcore.events import Fact


def run_here(config: RunConfig) -> None:
    """Run the configuration in this process and show its rounds and its final digest."""
    from fedcore.event_sink import EventSink
    from fedcore.run import run_federated
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

    store = home.store()
    # A chain belongs to one run; what an earlier one trained comes from the memo.
    run_id = f"local-{uuid.uuid4()}"
    with (
        reasons_for(ValueError, RuntimeError, LookupError, OSError),
        _engine(config) as engine,
        EventSink(home.event_log(), run_id, home.spool(), warn=_warn) as sink,
    ):
        _, result = run_federated(
            config,
            store=store,
            engine=engine,
            run_id=run_id,
            data_folder=home.data_folder(),
            emit=tell,
        )
    if out.is_terminal and progress.lines:
        out.print(rounds_table(progress.lines))
    out.print(f"run           {run_id}")
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
def _engine(config: RunConfig) -> Iterator[ClientEngine]:
    """The engine that ``speed.workers`` asks for."""
    from tasks import home

    if config.speed.workers == 0:
        from fedcore.engines.in_process import InProcessEngine

        yield InProcessEngine(home.store(), home.cache())
        return
    from fedcore.engines.pooled import PooledEngine
    from fedcore.training.pool import WorkerPool

    with WorkerPool(config.speed.workers) as pool:
        yield PooledEngine(home.store().url, home.cache(), pool)
