"""Four hospitals behind networks as they are: a cut link, a slow one, a disordered mailbox.

python -m benchmarks.network --rounds 10 --reports benchmarks/reports

Needs root, `ip netns`, nftables, nginx, TUN devices and the heart disease files (FEDLOOM_DATA).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.network import links, wire
from benchmarks.network.summary import report
from benchmarks.network.trial import LEAST_ROUNDS, trial
from deployments.stack.proxy import find_nginx
from deployments.stack.stack import StackError

CANNOT, FAILED = 2, 1


def missing() -> list[str]:
    """What this machine lacks for the trial; empty when nothing."""
    lacks = links.missing()
    try:
        find_nginx()
    except StackError as error:
        lacks.append(str(error))
    if not Path(wire.DEVICE).exists():
        lacks.append(f"{wire.DEVICE}, which slows a link (modprobe tun)")
    data = os.environ.get("FEDLOOM_DATA")
    if not data or not (Path(data) / "heart").is_dir():
        lacks.append("the heart disease files: FEDLOOM_DATA, the folder with heart/ in it")
    return lacks


def main(words: list[str] | None = None) -> int:
    """One trial; shows it, or writes ``network.md`` and ``network.json``. 2: it cannot be done
    here, 1: it has found something."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the mailbox's disorder")
    parser.add_argument("--reports", type=Path, help="folder of the report; without it: only shown")
    args = parser.parse_args(words)
    if args.rounds < LEAST_ROUNDS:
        parser.error(f"--rounds {args.rounds}: the cut link needs {LEAST_ROUNDS} to come back in.")
    if lacks := missing():
        print("The trial cannot be done here. Missing:", *lacks, sep="\n- ", file=sys.stderr)
        return CANNOT
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(CANNOT))  # what was begun is ended
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)  # nginx's own user passes through
        seen = trial(Path(folder), args.rounds, args.seed)
    report(args.reports, seen)
    print(seen.logs, file=sys.stderr)
    return FAILED if seen.problems else 0


if __name__ == "__main__":
    sys.exit(main())
