"""What Prefect costs: the same rounds through the stack and in fedcore alone, in turn.

python -m benchmarks.overhead --reports benchmarks/reports --repeats 3
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil

from benchmarks.chaos.control import Control
from benchmarks.operations import CUSTOM, table, until
from benchmarks.report import write_report
from deployments.registration import register
from deployments.stack.lifecycle import bring_down, bring_up
from deployments.stack.stack import Stack
from deployments.stack.supervision import service_states
from fedcore.config import RunConfig, load_config
from fedcore.engines.pooled import PooledEngine
from fedcore.event_log import EventLog
from fedcore.events import EventType
from fedcore.run import run_federated
from fedcore.store import Store
from fedcore.training.pool import WorkerPool

CONFIGS = Path(__file__).parent.parent / "configs" / "train_federated"


def main() -> None:
    """Measures and writes ``overhead.md`` and ``overhead.json``."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--repeats", type=int, default=3, help="each with a seed of its own")
    words.add_argument("--reports", type=Path, default=Path("benchmarks/reports"))
    args = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        try:
            stack = bring_up(home)
            register(stack)
            found = [
                (name, [share(stack, config, home) for config in configs])
                for name, configs in overhead_configs(args.repeats).items()
            ]
        finally:
            bring_down(home)
    rows = [summary(name, shares) for name, shares in found]
    body = [
        "The same rounds with the same number of training processes, through the stack and in "
        f"fedcore alone, one after the other; seeds 1 to {args.repeats}, medians, and the smallest "
        "and largest share.",
        table(rows),
    ]
    write_report(args.reports, "overhead", "What Prefect costs", body, {"shares": dict(found)})


def summary(name: str, shares: list[dict[str, float]]) -> dict[str, Any]:
    """A row of the report."""

    def middle(key: str) -> float:
        return round(median(one[key] for one in shares), 2)

    parts = [one["share"] for one in shares]
    return {
        "run": name,
        "client tasks": int(middle("tasks")),
        "client task, s": middle("task"),
        "rounds through Prefect, s": middle("through"),
        "rounds in fedcore alone, s": middle("alone"),
        "the server's CPU, s": middle("server"),
        "Prefect's share": f"{100 * median(parts):.1f} % "
        f"({100 * min(parts):.1f} to {100 * max(parts):.1f})",
    }


def overhead_configs(repeats: int) -> dict[str, list[RunConfig]]:
    """The demo, and 20 clients with tasks of a second and more, with seeds from 1."""
    seeds = range(1, repeats + 1)
    changes = {
        "partition.clients": 20,
        "rounds.count": 2,
        "training.epochs": 8,
        "evaluation.clients": False,
        "audit.remedy": "accept",
    }
    return {
        "demo": [load_config(CONFIGS / "demo.yaml", {"seed": seed}) for seed in seeds],
        "PneumoniaMNIST, 20 clients, 2 rounds": [
            load_config(CONFIGS / "pneumoniamnist.yaml", {**changes, "seed": seed})
            for seed in seeds
        ],
    }


def share(stack: Stack, config: RunConfig, folder: Path) -> dict[str, float]:
    """Seconds of the rounds through Prefect beside those of the same rounds in fedcore alone."""
    control = Control(stack)
    server = psutil.Process(service_states(stack.home)["prefect"]["pid"])
    before = server.cpu_times()
    run_id = control.start(CUSTOM, config.model_dump(mode="json"))
    until(lambda: control.state(run_id) in {"Completed", "Failed", "Crashed"})
    after = server.cpu_times()
    events = EventLog(f"sqlite:///{stack.home / 'events.db'}").history(run_id)
    through = rounds_seconds([(event.type, event.status, event.ts) for event in events])
    tasks = [
        event.latency_ms / 1000
        for event in events
        if event.type is EventType.CLIENT_TRAIN_COMPLETED and event.latency_ms
    ]
    place = folder / f"alone-{config.digest[:8]}"
    told: list[tuple[EventType, str, float]] = []
    data = os.environ.get("FEDLOOM_DATA")
    with WorkerPool(config.speed.workers) as pool:
        run_federated(
            config,
            store=Store(place / "store"),
            engine=PooledEngine(str(place / "store"), place / "cache", pool),
            run_id="alone",
            data_folder=Path(data) if data else None,
            emit=lambda fact: told.append((fact.type, fact.status, time.time())),
        )
    alone = rounds_seconds(told)
    return {
        "task": median(tasks),
        "tasks": len(tasks),
        "through": through,
        "alone": alone,
        "server": after.user + after.system - before.user - before.system,
        "share": (through - alone) / through,
    }


def rounds_seconds(told: list[tuple[EventType, str, float]]) -> float:
    """From the first round's start to the last one's end."""
    begun = [ts for kind, _, ts in told if kind is EventType.ROUND_STARTED]
    ended = [ts for kind, _, ts in told if kind is EventType.ROUND_COMPLETED]
    return max(ended) - min(begun)


if __name__ == "__main__":
    main()
