"""Many sites through the real stack: do all rounds complete, how long between two of them, how soon
do sites begin, what do they ask meanwhile, and what memory does the coordinator take.

python -m benchmarks.sites --rounds 5 --reports benchmarks/reports
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil

from benchmarks.chaos.control import Control
from benchmarks.chaos.stack import log_of
from benchmarks.mailbox_parties import Parties, make_parties
from benchmarks.operations import table
from benchmarks.report import write_report
from benchmarks.site_times import Mailed, between_rounds, until_started
from deployments.registration import register
from deployments.site.keep import environment
from deployments.site.worker import HEARTBEAT_SECONDS, LOOK_SECONDS, POLL_SECONDS
from deployments.stack.lifecycle import bring_down, bring_up
from deployments.stack.options import Options
from deployments.stack.recovery import processes_of_runs
from deployments.stack.stack import Stack
from fedcore.config import make_config
from fedcore.events import Event, EventType
from fedcore.sites.folder import SiteFolder, write_settings
from fedcore.sites.session import LONGEST_PAUSE

CASES = (("sqlite", 8, 8), ("postgres", 8, 8), ("postgres", 50, 5))  # (database, sites, workers)
ENDED = {"Completed", "Failed", "Crashed", "Cancelled"}
MOST_SECONDS = 900.0


def main() -> None:
    """Measures and writes ``sites.md`` and ``sites.json``."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--case", type=int, choices=range(len(CASES)), help="only this one")
    words.add_argument("--reports", type=Path, default=Path("benchmarks/reports"))
    args = words.parse_args()
    cases = CASES if args.case is None else (CASES[args.case],)
    rows = [measured(database, sites, workers, args.rounds) for database, sites, workers in cases]
    report(args.reports, rows)


def report(folder: Path, rows: list[dict[str, Any]]) -> None:
    """``sites.md`` and ``sites.json``."""
    body = [
        "Sites with 60 rows of 4 numbers each, logistic regression, the mailbox in a folder; all "
        "on one machine with the coordinator's stack. Workers host their sites' sessions.",
        table(rows),
        "From a round's last answer in the mailbox to the next one's first announcement, less the "
        "aggregation; and from an announcement to the start of the task at its site, which is "
        "idle.",
        asked(),
    ]
    write_report(folder, "sites", "Many sites", body, {"rows": rows})


def asked() -> str:
    """What one site and fifty of them ask while a run goes on and they have nothing to do."""
    api = 1 / POLL_SECONDS + 1 / LOOK_SECONDS + 1 / HEARTBEAT_SECONDS
    mailbox = 1 / LONGEST_PAUSE
    return (
        f"An idle site in a run asks Prefect {api:.2f} times a second (for sessions every "
        f"{POLL_SECONDS:g} s, after its own every {LOOK_SECONDS:g} s, a heartbeat every "
        f"{HEARTBEAT_SECONDS:g} s) and the mailbox {mailbox:.1f} times (for the next "
        f"announcement every {LONGEST_PAUSE:g} s); 50 sites {50 * api:.0f} and {50 * mailbox:.0f} "
        "times."
    )


def measured(database: str, sites: int, workers: int, rounds: int) -> dict[str, Any]:
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
                return {"database": database, **one_run(stack, parties, workers, rounds)}
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


def one_run(stack: Stack, parties: Parties, workers: int, rounds: int) -> dict[str, Any]:
    """What a run took."""
    config = make_config(
        {
            "partition": {"kind": "by_owner"},
            "audit": {"remedy": "accept"},
            "model": {"kind": "logistic"},
            "training": {"kind": "loop", "batch_size": 16, "steps": 2},
            "rounds": {"count": rounds, "min_clients": len(parties.sites)},
            "evaluation": {"every": rounds},
            "engine": {"kind": "sites", "limit_seconds": 600, "join_seconds": 600},
        }
    )
    control, most, over = Control(stack), [0], threading.Event()
    run = control.start("train-federated/custom", config.model_dump(mode="json"))
    lanes = parties.coordinator.lanes(parties.mailbox, run, 1, ())
    mailed = Mailed(Path(parties.mailbox.place.root), lanes)
    watcher = threading.Thread(target=_watch, args=(stack.home, run, most, mailed, over))
    watcher.start()
    begun = time.monotonic()
    while control.state(run) not in ENDED and time.monotonic() - begun < MOST_SECONDS:
        time.sleep(0.5)
    over.set()
    watcher.join()
    took, state = time.monotonic() - begun, control.state(run)
    events = log_of(stack).history(run)
    of = {kind: sum(event.type is kind for event in events) for kind in EventType}
    announced, answered = mailed.times()
    aggregation = _median(aggregations(events))
    starts = until_started(announced, *control.tasks_at_sites(run)).values()
    return {
        "sites": len(parties.sites),
        "workers": workers,
        "state": state,
        "rounds completed": f"{of[EventType.ROUND_COMPLETED]} of {rounds}",
        "updates": of[EventType.CLIENT_UPDATE_UPLOADED],
        "last answer to next announcement, median s": round(
            _median(between_rounds(announced, answered)) - aggregation, 2
        ),
        "aggregation, median s": round(aggregation, 2),
        "announcement to task, median s": round(_median(starts), 2),
        "coordinator's most memory, MB": round(most[0] / 2**20),
        "run, s": round(took, 1),
    }


def aggregations(events: list[Event]) -> list[float]:
    """Seconds of each aggregation."""
    done = (event for event in events if event.type is EventType.AGGREGATION_COMPLETED)
    return [event.latency_ms / 1000 for event in done if event.latency_ms is not None]


def _median(values: Iterable[float]) -> float:
    found = list(values)
    return median(found) if found else math.nan


def _watch(home: Path, run: str, most: list[int], mailed: Mailed, over: threading.Event) -> None:
    while not over.wait(0.5):
        mailed.look()
        for process in processes_of_runs(home).get(run, ()):
            try:
                most[0] = max(most[0], process.memory_info().rss)
            except psutil.NoSuchProcess:
                continue


if __name__ == "__main__":
    main()
