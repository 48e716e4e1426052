"""Many sites through the real stack: do all rounds complete, how long between two of them, and what
memory the coordinator takes.

python -m benchmarks.sites --rounds 5 --reports benchmarks/reports
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil

from benchmarks.chaos.control import Control
from benchmarks.chaos.stack import log_of
from benchmarks.mailbox_parties import make_parties
from benchmarks.operations import table
from benchmarks.report import write_report
from deployments.registration import register
from deployments.site.keep import environment
from deployments.stack.lifecycle import bring_down, bring_up
from deployments.stack.options import Options
from deployments.stack.recovery import processes_of_runs
from deployments.stack.stack import Stack
from fedcore.config import make_config
from fedcore.events import Event, EventType
from fedcore.sites.folder import SiteFolder, write_settings

CASES = ((8, 8), (50, 5))  # (sites, workers)
ENDED = {"Completed", "Failed", "Crashed", "Cancelled"}
MOST_SECONDS = 900.0


def main() -> None:
    """Measures and writes ``sites.md`` and ``sites.json``."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--database", choices=("sqlite", "postgres"), default="postgres")
    words.add_argument("--reports", type=Path, default=Path("benchmarks/reports"))
    args = words.parse_args()
    rows = [measured(sites, workers, args.rounds, args.database) for sites, workers in CASES]
    report(args.reports, rows)


def report(folder: Path, rows: list[dict[str, Any]]) -> None:
    """``sites.md`` and ``sites.json``."""
    body = [
        "Sites with 60 rows of 4 numbers each, logistic regression, the mailbox in a folder; all "
        "on one machine with the coordinator's stack. Workers host their sites' sessions.",
        table(rows),
    ]
    write_report(folder, "sites", "Many sites", body, {"rows": rows})


def measured(sites: int, workers: int, rounds: int, database: str) -> dict[str, Any]:
    """One run over so many sites that so many processes host."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o711)  # PostgreSQL never runs as root: another user has to pass through
        try:
            stack = bring_up(home, options=Options(database=database), tell=lambda line: None)
            names = [f"site-{number:02d}" for number in range(sites)]
            parties = make_parties(home, str(home / "mailbox"), names)
            for site in parties.sites.values():
                api = {"api": stack.prefect_api_url}
                write_settings(site, site.settings.model_copy(update=api))
            register(stack)
            with working(home, list(parties.sites.values()), workers):
                return {"database": database, **one_run(stack, sites, workers, rounds)}
        finally:
            bring_down(home)


@contextmanager
def working(home: Path, sites: list[SiteFolder], workers: int) -> Iterator[None]:
    """The workers' processes, each with its share of the sites."""
    command = (sys.executable, "-m", "deployments.site.worker")
    started = []
    with open(home / "workers.log", "w") as log:
        for number in range(workers):
            share = [str(site.path) for site in sites[number::workers]]
            process = subprocess.Popen([*command, *share], env=environment(), stderr=log)
            started.append(process)
        try:
            yield
        finally:
            for process in started:
                process.kill()
                process.wait()


def one_run(stack: Stack, sites: int, workers: int, rounds: int) -> dict[str, Any]:
    """What a run took."""
    config = make_config(
        {
            "partition": {"kind": "by_owner"},
            "audit": {"remedy": "accept"},
            "model": {"kind": "logistic"},
            "training": {"kind": "loop", "batch_size": 16, "steps": 2},
            "rounds": {"count": rounds, "min_clients": sites},
            "evaluation": {"every": rounds},
            "engine": {"kind": "sites", "limit_seconds": 600, "join_seconds": 600},
        }
    )
    control, most, over = Control(stack), [0], threading.Event()
    run = control.start("train-federated/custom", config.model_dump(mode="json"))
    watcher = threading.Thread(target=_watch, args=(stack.home, run, most, over))
    watcher.start()
    begun = time.monotonic()
    while control.state(run) not in ENDED and time.monotonic() - begun < MOST_SECONDS:
        time.sleep(0.5)
    over.set()
    watcher.join()
    events = log_of(stack).history(run)
    waits = between_rounds(events)
    of = {kind: sum(event.type is kind for event in events) for kind in EventType}
    return {
        "sites": sites,
        "workers": workers,
        "state": control.state(run),
        "rounds completed": f"{of[EventType.ROUND_COMPLETED]} of {rounds}",
        "updates": of[EventType.CLIENT_UPDATE_UPLOADED],
        "last update to next round, median s": round(median(waits), 2) if waits else "-",
        "aggregation, median s": round(median(aggregations(events)), 2),
        "coordinator's most memory, MB": round(most[0] / 2**20),
        "run, s": round(time.monotonic() - begun, 1),
    }


def between_rounds(events: list[Event]) -> list[float]:
    """Seconds from a round's last update to the first announcement of the next."""
    last = _times(events, EventType.CLIENT_UPDATE_UPLOADED, max)
    first = _times(events, EventType.CLIENT_TRAIN_STARTED, min)
    return [first[number + 1] - when for number, when in last.items() if number + 1 in first]


def aggregations(events: list[Event]) -> list[float]:
    """Seconds of each aggregation."""
    done = (event for event in events if event.type is EventType.AGGREGATION_COMPLETED)
    return [event.latency_ms / 1000 for event in done if event.latency_ms is not None]


def _times(events: list[Event], kind: EventType, pick: Any) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for event in events:
        if event.type is kind:
            found.setdefault(event.round, []).append(event.ts)
    return {number: pick(times) for number, times in found.items()}


def _watch(home: Path, run: str, most: list[int], over: threading.Event) -> None:
    while not over.wait(0.5):
        for process in processes_of_runs(home).get(run, ()):
            try:
                most[0] = max(most[0], process.memory_info().rss)
            except psutil.NoSuchProcess:
                continue


if __name__ == "__main__":
    main()
