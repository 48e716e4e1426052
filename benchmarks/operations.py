"""How fast a run obeys its operator, and whether fifty queued runs all end.

python -m benchmarks.operations --reports benchmarks/reports --repeats 3 --queued 50
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.chaos.control import Control
from benchmarks.report import write_report
from deployments.registration import register
from deployments.stack.lifecycle import bring_down, bring_up
from deployments.stack.recovery import processes_of_runs
from deployments.stack.stack import Stack
from fedcore.config import make_config
from fedcore.event_log import EventLog
from fedcore.events import EventType

# Client tasks of some seconds, one at a time.
SLOW = {
    "name": "custom",
    "data": {"kind": "digits"},
    "partition": {"kind": "iid", "clients": 6},
    "audit": {"remedy": "drop-from-train"},
    "training": {"kind": "loop", "batch_size": 4, "epochs": 60, "learning_rate": 0.05},
    "rounds": {"count": 3},
    "speed": {"workers": 1},
}
SMALL = {
    "name": "custom",
    "data": {"kind": "breast_cancer"},
    "partition": {"kind": "iid", "clients": 3},
    "audit": {"remedy": "accept"},
    "model": {"kind": "logistic"},
    "rounds": {"count": 2},
    "registry": {"register_model": False},
    "speed": {"workers": 0},
}
CUSTOM = "train-federated/custom"
PATIENCE_SECONDS = 900.0


@dataclass
class Measured:
    """Seconds of each control, one value a repeat."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, what: str, begun: float) -> None:
        """Note what has passed since ``begun``."""
        self.seconds.setdefault(what, []).append(round(time.monotonic() - begun, 1))


def main() -> None:
    """Measures and writes ``operations.md`` and ``operations.json``."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--repeats", type=int, default=3)
    words.add_argument("--queued", type=int, default=50)
    words.add_argument("--reports", type=Path, default=Path("benchmarks/reports"))
    args = words.parse_args()
    measured = Measured()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        try:
            stack = bring_up(home)
            register(stack)
            for seed in range(args.repeats):
                controls(stack, seed, measured)
            queue = queued(stack, args.queued)
        finally:
            bring_down(home)
    report(args.reports, measured, queue)


def controls(stack: Stack, seed: int, measured: Measured) -> None:
    """Trigger, pause, resume, cancel, retry on one run."""
    control = Control(stack)
    log = EventLog(f"sqlite:///{stack.home / 'events.db'}")
    config = make_config({**SLOW, "seed": seed})
    begun = time.monotonic()
    run_id = control.start(CUSTOM, config.model_dump(mode="json"))
    until(lambda: control.tasks(run_id))
    measured.add("trigger to first task", begun)
    until(lambda: log.history(run_id, types=[EventType.CLIENT_UPDATE_UPLOADED]))
    begun = time.monotonic()
    control.set_state(run_id, {"type": "PAUSED", "name": "Suspended", **RESCHEDULE})
    until(lambda: not working(stack, run_id))
    measured.add("pause to no process", begun)
    tasks, begun = len(control.tasks(run_id)), time.monotonic()
    control.resume(run_id)
    until(lambda: len(control.tasks(run_id)) > tasks)
    measured.add("resume to first task", begun)
    done = len(log.history(run_id, types=[EventType.CLIENT_UPDATE_UPLOADED]))
    until(lambda: len(log.history(run_id, types=[EventType.CLIENT_UPDATE_UPLOADED])) > done)
    begun = time.monotonic()
    control.set_state(run_id, {"type": "CANCELLING", "name": "Cancelling"})
    until(lambda: not working(stack, run_id))
    measured.add("cancel to no process", begun)
    until(lambda: control.state(run_id) == "Cancelled")
    tasks, begun = len(control.tasks(run_id)), time.monotonic()
    control.retry(run_id)
    until(lambda: len(control.tasks(run_id)) > tasks)
    measured.add("retry to first task", begun)
    until(lambda: control.state(run_id) == "Completed")
    trained = [
        event.latency_ms / 1000
        for event in log.history(run_id, types=[EventType.CLIENT_TRAIN_COMPLETED])
        if event.status == "done" and event.latency_ms
    ]
    measured.seconds.setdefault("a client task", []).append(round(median(trained), 1))


RESCHEDULE: dict[str, Any] = {"state_details": {"pause_reschedule": True}}


def queued(stack: Stack, count: int) -> dict[str, Any]:
    """So many runs asked for at once: how they ended, and whether a lock of SQLite reached one."""
    control, begun = Control(stack), time.monotonic()
    runs = [
        control.start(CUSTOM, make_config({**SMALL, "seed": n}).model_dump(mode="json"))
        for n in range(count)
    ]
    asked = time.monotonic() - begun
    until(
        lambda: all(control.state(run) in {"Completed", "Failed", "Crashed"} for run in runs),
        seconds=60.0 * count,
    )
    states = [control.state(run) for run in runs]
    locked = {
        path.name: path.read_text(errors="replace").count("database is locked")
        for path in (stack.home / "logs").iterdir()
        if path.is_file()
    }
    in_server = sum(count for name, count in locked.items() if name.startswith("prefect"))
    return {
        "runs asked for at once": count,
        "seconds to ask for them": round(asked, 1),
        **{f"runs {state}": states.count(state) for state in sorted(set(states))},
        "minutes until all had ended": round((time.monotonic() - begun) / 60, 1),
        '"database is locked" in a log of a run': sum(locked.values()) - in_server,
        "in the Prefect server's own log": in_server,
    }


def working(stack: Stack, run_id: str) -> bool:
    """Whether a process on this machine works for the run."""
    return run_id in processes_of_runs(stack.home)


def until(holds: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for it.

    Raises:
      TimeoutError: it did not come to hold.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s.")
        time.sleep(0.2)


def report(folder: Path, measured: Measured, queue: dict[str, Any]) -> None:
    """``operations.md`` and ``operations.json``."""
    rows = "\n".join(
        f"| {what} | {median(values)} | {max(values)} |"
        for what, values in measured.seconds.items()
    )
    body = [
        "Digits, 6 clients, one training process, on the local stack with SQLite; seeds "
        f"0 to {len(next(iter(measured.seconds.values()))) - 1}.",
        f"| control | median s | slowest s |\n|---|---|---|\n{rows}",
        "## Runs queued at once",
        table([queue]),
        "SQLite refuses a change that was begun before another one was done; Prefect's server logs "
        "that, and ours asks it again: none reaches a run.",
    ]
    data = {"controls": measured.seconds, "queue": queue}
    write_report(folder, "operations", "Operating a run", body, data)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown of rows with the same keys."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([row[key] for key in head] for row in rows)]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


if __name__ == "__main__":
    main()
