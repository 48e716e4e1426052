"""What a mailbox costs: requests of who waits, delays of a round, and a flood of bad messages.

python -m benchmarks.mailbox --seconds 60 --rate 1000 --reports benchmarks/reports
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil

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
from benchmarks.report import write_report
from benchmarks.s3_server import environment, make_bucket, s3_server
from fedcore.sites.session import Session

HONEST = tuple(f"site-{number}" for number in range(1, 9))
MOLES = ("mole-1", "mole-2")
SETTLED = 5.0  # seconds after which everybody has backed off
IDLE, QUICK_ROUNDS, IDLE_ROUNDS, ENDLESS = 3.0, 12, 5, 10**5


def main() -> None:
    """Measures over a folder and over S3; prints, or writes ``mailbox.md`` and ``.json``."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seconds", type=float, default=60.0, help="of the flood, and of watching")
    words.add_argument("--rate", type=float, default=1000.0, help="bad submissions a second")
    words.add_argument("--places", nargs="+", default=["folder", "s3"], choices=["folder", "s3"])
    words.add_argument("--reports", type=Path, help="folder of the report; without it: only shown")
    args = words.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if "folder" in args.places:
            at = Path(folder) / "folder"
            found["folder"] = measure(at, str(at / "mailbox"), args.seconds, args.rate)
        if "s3" in args.places:
            with s3_server() as url:
                os.environ.update(environment(url))
                make_bucket("mailbox")
                at = Path(folder) / "s3"
                found["s3"] = measure(at, "s3://mailbox", args.seconds, args.rate)
    report(args.reports, found)


def measure(folder: Path, url: str, seconds: float, rate: float) -> dict[str, Any]:
    """All figures of one place."""
    watched = min(seconds, 20.0)
    parties = make_parties(folder / "parties", f"{url}/load", HONEST)
    with traced() as trace:
        found = load(parties, trace, watched) | delays(parties, trace)
    place = f"{url}/flood"
    flooded = make_parties(folder / "flood", place, HONEST + MOLES)
    return {**found, "flood": survive(flooded, place, seconds, rate)}


def load(parties: Parties, trace: Trace, seconds: float) -> dict[str, float]:
    """Requests an hour of an idle session, and of the coordinator for each site it waits for."""
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
    return {"idle session": 3600 * idle, "coordinator, per site": 3600 * waiting}


def delays(parties: Parties, trace: Trace) -> dict[str, float]:
    """Median seconds from announcement to start, and from the last update to the next round."""
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
        found[f"announced to started, {run}"] = median(waits)
        if not idle:
            left, asked = trace.posted("from/"), [at for ats in told.values() for at in ats]
            found["last update to next round"] = median(
                min(when for when in asked if when > end) - max(at for at in left if at < end)
                for end in ends[:-1]
            )
    return found


def survive(parties: Parties, url: str, seconds: float, rate: float) -> dict[str, Any]:
    """Rounds before and during a flood, with two registered sites among those that send rubbish."""
    refused, process, megabytes = Counter[str](), psutil.Process(), []
    sessions = [
        (Mole if name in MOLES else Session)(site, "flood") for name, site in parties.sites.items()
    ]
    with attended(sessions):
        began = time.monotonic()
        with running(
            parties, "flood", ENDLESS, lambda reason: refused.update([reason]), len(HONEST)
        ) as rounds:
            calm, _ = _rounds(rounds, min(seconds, 20.0))
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
        "bad submissions a second": written["written"] / written["seconds"],
        "rounds a minute before": calm,
        "rounds a minute": stormy,
        "honest updates a round, least": min(done),
        "refused": dict(refused),
        "MB before": megabytes[0],
        "MB most": max(megabytes),
        "MB at the end": megabytes[-1],
        "seconds to clear": ended - closing,
        "seconds": ended - began,
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


def report(folder: Path | None, found: dict[str, Any]) -> None:
    """One table with a column for each place."""
    rows = ["| | " + " | ".join(found) + " |", "|---|" + "---:|" * len(found)]
    first = next(iter(found.values()))
    flat = {place: {**value, **value["flood"]} for place, value in found.items()}
    for name in [*first, *first["flood"]]:
        if name != "flood":
            cells = (_cell(value[name]) for value in flat.values())
            rows.append(f"| {name} | " + " | ".join(cells) + " |")
    text = [
        f"{len(HONEST)} sites as threads of the coordinator's process, a logistic model; under the "
        f"flood {len(MOLES)} registered sites more that answer with rubbish. Requests are an hour, "
        "delays medians in seconds. S3 is moto's server: one request at a time.",
        "\n".join(rows),
    ]
    if folder:
        write_report(folder, "mailbox", "The mailbox", text, {"places": found})
    else:
        print("\n\n".join(text))


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{reason} {count}" for reason, count in sorted(value.items())) or "none"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


if __name__ == "__main__":
    main()
