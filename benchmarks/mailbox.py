"""What a mailbox costs: requests of who waits, delays of a round, and floods of bad messages into
the mailbox and into the gateway of a real stack. Each part takes some minutes; the report keeps
what the parts before have found.

python -m benchmarks.mailbox folder s3 folder-flood s3-flood gateway-flood
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil

from benchmarks import gateway_trial
from benchmarks.mailbox_flood import start_flood
from benchmarks.mailbox_parties import (
    Mole,
    Parties,
    Trace,
    attended,
    make_parties,
    running,
    traced,
)
from benchmarks.report import quartiles, write_report
from benchmarks.s3_server import environment, make_bucket, s3_server
from fedcore.sites.session import Session

HONEST = tuple(f"site-{number}" for number in range(1, 9))
MOLES = ("mole-1", "mole-2")
SETTLED, WATCHED = 5.0, 20.0  # seconds: until everybody has backed off; looked at then
IDLE, QUICK_ROUNDS, IDLE_ROUNDS, ENDLESS = 3.0, 21, 8, 10**5


def main() -> None:
    """Measures the parts that are asked for and writes ``mailbox.md`` and ``mailbox.json``."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("parts", nargs="+", choices=[*PARTS])
    words.add_argument("--seconds", type=float, default=60.0, help="of a flood")
    words.add_argument("--rate", type=float, default=1000.0, help="bad messages a second")
    words.add_argument("--reports", type=Path, default=Path("benchmarks/reports"))
    args = words.parse_args()
    for part in args.parts:
        before = {"load of the machine before": os.getloadavg()[0]}
        with tempfile.TemporaryDirectory() as folder:
            found = PARTS[part](Path(folder), args.seconds, args.rate)
        report(args.reports, {part: before | found})


def costs(folder: Path, url: str) -> dict[str, Any]:
    """Load and delays of one place."""
    parties = make_parties(folder / "parties", url, HONEST)
    alone = {"seconds of a request alone": quartiles([_request(parties) for _ in range(100)])}
    with traced() as trace:
        return alone | load(parties, trace, WATCHED) | delays(parties, trace)


def _request(parties: Parties) -> float:
    began = time.monotonic()
    parties.mailbox.read(f"from/{HONEST[0]}/load/nothing", 1)
    return time.monotonic() - began


@contextmanager
def bucket() -> Iterator[str]:
    """The URL of a bucket at a server of its own, until the block ends."""
    with s3_server() as url:
        os.environ.update(environment(url))
        make_bucket("mailbox")
        yield "s3://mailbox"


def in_folder(folder: Path, seconds: float, rate: float) -> dict[str, Any]:
    """Load and delays of a mailbox in a folder."""
    return costs(folder, str(folder / "mailbox"))


def in_bucket(folder: Path, seconds: float, rate: float) -> dict[str, Any]:
    """Load and delays of a mailbox in a bucket."""
    with bucket() as url:
        return costs(folder, url)


def folder_flooded(folder: Path, seconds: float, rate: float) -> dict[str, Any]:
    """A flood into a folder."""
    url = str(folder / "mailbox")
    return survive(make_parties(folder, url, HONEST + MOLES), url, seconds, rate)


def bucket_flooded(folder: Path, seconds: float, rate: float) -> dict[str, Any]:
    """A flood into a bucket."""
    with bucket() as url:
        return survive(make_parties(folder, url, HONEST + MOLES), url, seconds, rate)


def gateway_flooded(folder: Path, seconds: float, rate: float) -> dict[str, Any]:
    """A flood into the gateway."""
    return gateway_trial.withstand(seconds, rate)


PARTS = {
    "folder": in_folder,
    "s3": in_bucket,
    "folder-flood": folder_flooded,
    "s3-flood": bucket_flooded,
    "gateway-flood": gateway_flooded,
}


def load(parties: Parties, trace: Trace, seconds: float) -> dict[str, float]:
    """Requests a second of an idle session, and of the coordinator for each site it waits for."""
    sessions = [Session(site, "load", work=trace.working) for site in parties.sites.values()]
    with attended(sessions):
        time.sleep(SETTLED)
        since = time.monotonic()
        time.sleep(seconds)
        idle = trace.count("to/", since) / (time.monotonic() - since) / len(sessions)
        with running(parties, "load", 1, lambda reason: None, len(sessions)) as rounds:
            trace.slow = SETTLED + seconds + 2
            asking = threading.Thread(target=lambda: list(rounds))
            asking.start()
            while len(trace.starts) < len(sessions):
                time.sleep(0.05)
            time.sleep(SETTLED)
            since = time.monotonic()
            time.sleep(seconds)
            waiting = trace.count("from/", since) / (time.monotonic() - since) / len(sessions)
            trace.slow = 0.0
            asking.join()
    return {
        "requests a second of an idle session": idle,
        "requests a second of the coordinator, for each site it waits for": waiting,
    }


def delays(parties: Parties, trace: Trace) -> dict[str, list[float]]:
    """Seconds from announcement to start, and from the last update to the next round: quartiles."""
    found = {}
    for run, count, idle in (("quick", QUICK_ROUNDS, 0.0), ("idle", IDLE_ROUNDS, IDLE)):
        sessions = [Session(site, run, work=trace.working) for site in parties.sites.values()]
        with (
            attended(sessions),
            running(parties, run, count, lambda reason: None, len(sessions)) as rounds,
        ):
            trace.starts.clear()
            ends = []
            time.sleep(idle)
            for _ in rounds:
                ends.append(time.monotonic())
                time.sleep(idle)
        told = {site: trace.posted(f"to/{site}/{run}/") for site in parties.sites}
        trained = trace.starts[: count * len(sessions)]
        waits = [at - max(when for when in told[site] if when <= at) for at, site in trained]
        found[f"seconds from announcement to start, {run} sites"] = quartiles(waits)
        if not idle:
            left, asked = trace.posted("from/"), [at for ats in told.values() for at in ats]
            found["seconds from the last update to the next announcement"] = quartiles(
                [
                    min(when for when in asked if when > end) - max(at for at in left if at < end)
                    for end in ends[:-1]
                ]
            )
    return found


def survive(parties: Parties, url: str, seconds: float, rate: float) -> dict[str, Any]:
    """Rounds before and during a flood, with two registered sites among those that send rubbish."""
    refused, process, megabytes = Counter[str](), psutil.Process(), list[float]()
    sessions = [
        (Mole if name in MOLES else Session)(site, "flood") for name, site in parties.sites.items()
    ]
    with attended(sessions):
        began = time.monotonic()
        with running(
            parties, "flood", ENDLESS, lambda reason: refused.update([reason]), len(HONEST)
        ) as rounds:
            calm, _ = _rounds(rounds, WATCHED)
            refused.clear()
            megabytes.append(process.memory_info().rss / 2**20)
            attack = start_flood(url, "flood", [*parties.sites], seconds, rate)
            stormy, done = _rounds(
                rounds, seconds, lambda: megabytes.append(process.memory_info().rss / 2**20)
            )
            written = json.loads(attack.communicate()[0])
            closing = time.monotonic()
        ended = time.monotonic()
    return {
        "bad messages a second, asked for": rate,
        "bad messages a second": written["written"] / written["seconds"],
        "rounds a minute before": calm,
        "rounds a minute": stormy,
        "honest updates a round, least": min(done),
        "refused": dict(refused),
        "MB before": megabytes[0],
        "MB midway": megabytes[len(megabytes) // 2],
        "MB at the end": megabytes[-1],
        "seconds to clear the mailbox": ended - closing,
        "seconds of it all": ended - began,
    }


def _rounds(rounds: Any, seconds: float, each: Any = lambda: None) -> tuple[float, list[int]]:
    """Rounds a minute, and how many updates each had."""
    began, done = time.monotonic(), []
    for record in rounds:
        done.append(sum(row["status"] == "done" for row in record.outcomes.values()))
        each()
        if time.monotonic() - began > seconds:
            break
    return 60 * len(done) / (time.monotonic() - began), done


def report(folder: Path, found: dict[str, Any]) -> None:
    """Adds what was found to the report of what was found before."""
    file = folder / "mailbox.json"
    before = json.loads(file.read_text())["parts"] if file.exists() else {}
    parts = {part: {**before, **found}[part] for part in PARTS if part in {*before, *found}}
    places = [part for part in ("folder", "s3") if part in parts]
    floods = [part for part in ("folder-flood", "s3-flood") if part in parts]
    body = [
        f"{len(HONEST)} sites of 60 rows each (numpy seeds 0 to {len(HONEST) - 1}), as threads of "
        "the coordinator's process; logistic regression. S3 is moto's server: one request at a "
        f"time. Delays are medians with quartiles, of {QUICK_ROUNDS - 1} rounds one after the "
        f"other, for idle sites of {IDLE_ROUNDS} rounds with {IDLE:g} s between them.",
        _table(parts, places),
        f"A flood into the mailbox by a process that may write everywhere in it (seed 0), and by "
        f"{len(MOLES)} registered sites more that answer with rubbish. Refused are those answers: "
        "names that nobody derives are never read.",
        _table(parts, floods),
        "A flood into the gateway before a real stack (Prefect's server on SQLite), by a process "
        f"with the tokens of {len(gateway_trial.MOLES)} sites (seed 0), while "
        f"{len(gateway_trial.SITES)} other sites, with a worker each, take part in a run and one "
        "of them asks four times a second more. Answers are by HTTP status; the gateway counts a "
        "refusal for each.",
        _table(parts, [part for part in parts if part == "gateway-flood"]),
    ]
    write_report(folder, "mailbox", "The mailbox and the gateway", body, {"parts": parts})


def _table(parts: dict[str, Any], names: list[str]) -> str:
    if not names:
        return "Not measured yet."
    rows = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for what in parts[names[0]]:
        cells = " | ".join(_cell(parts[name][what]) for name in names)
        rows.append(f"| {what} | {cells} |")
    return "\n".join(rows)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{reason} {count}" for reason, count in sorted(value.items())) or "none"
    if isinstance(value, list):
        low, middle, high = map(_cell, value)
        return f"{middle} ({low} to {high})"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


if __name__ == "__main__":
    main()
