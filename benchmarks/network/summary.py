"""The report of a trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.network.trial import (
    BYTES_A_SECOND,
    CUT,
    CUT_AFTER,
    CUT_FOR,
    DELAY_SECONDS,
    DISORDERED,
    PARTED,
    SLOW,
    Trial,
)
from benchmarks.report import write_report


def report(folder: Path | None, seen: Trial) -> None:
    """Shows a trial, or writes ``network.md`` and ``network.json``."""
    sites = [*seen.rounds[0]["sites"]] if seen.rounds else []
    rows = [
        [one["round"], f"{one['seconds']:.1f}", "yes" if one["cut"] else "", *one["sites"].values()]
        for one in seen.rounds
    ]
    ways = [[way, "yes" if reached else "no"] for way, reached in seen.connections.items()]
    did = Counter(status for one in seen.rounds for status in one["sites"].values())
    body = [
        "The four hospitals of heart-disease-sites, each in a network namespace of its own, which "
        "lets connections out to the proxy's two ports and none in. Prefect's API and the object "
        "store are behind one nginx, over TLS with a certificate that sites were told to trust. "
        f"{CUT}'s link is cut after round {CUT_AFTER} for {CUT_FOR} rounds; {SLOW}'s takes "
        f"{DELAY_SECONDS:g} s each way and {8 * BYTES_A_SECOND / 1e6:g} Mbit/s; what {DISORDERED} "
        "leaves in the mailbox and finds there is delayed, repeated and copied, and once an old "
        f"answer of its own is there first; {PARTED}'s link is cut before the last round until the "
        "run is over. A round ends 2 s after the third answer, or after 8 s.",
        f"The run is {seen.state or 'not over'} after {seen.seconds:.0f} s, its start included. "
        + ("; ".join(seen.problems) or "Nothing went wrong")
        + ".",
        "## Rounds",
        _table(["round", "s", f"{CUT} cut", *sites], rows),
        "Together: " + ", ".join(f"{status} {count}" for status, count in did.items()) + ". "
        "Sessions: " + ", ".join(f"{site} {state}" for site, state in seen.sessions.items()) + ".",
        "## Connections",
        _table(["from, to", "succeeded"], ways),
        f"## {DISORDERED}'s mailbox",
        _table(["objects", "so many"], [[what, count] for what, count in seen.disorder.items()]),
    ]
    data: dict[str, Any] = {"trial": {k: v for k, v in vars(seen).items() if k != "logs"}}
    if folder:
        write_report(folder, "network", "Network trial", body, data)
    else:
        print("\n\n".join(body))


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
