"""Bad submissions by somebody who may write everywhere in a mailbox: a process of its own."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

MOST_BYTES = 8192
TICK = 0.05


def start_flood(
    url: str, run: str, sites: Sequence[str], seconds: float, rate: float
) -> subprocess.Popen[str]:
    """Begins; standard output is ``{"written": ..., "seconds": ...}`` at the end."""
    words = json.dumps([url, run, list(sites), seconds, rate])
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.mailbox_flood", words], stdout=subprocess.PIPE, text=True
    )


def flood(url: str, run: str, sites: list[str], seconds: float, rate: float) -> dict[str, Any]:
    """Writes ``rate`` bad submissions a second, or as many as the place takes."""
    random.seed(0)
    is_folder = "://" not in url
    root, write = (url, _write_file) if is_folder else (url.partition("://")[2], _put_object)
    threads = ThreadPoolExecutor(4 if is_folder else 16)
    began, written = time.monotonic(), 0
    while (now := time.monotonic() - began) < seconds:
        due = int(min(rate * TICK * 4, rate * (now + TICK) - written))
        made = [_bad(root, run, random.choice(sites)) for _ in range(due)]
        list(threads.map(lambda one: write(*one), made))
        written += len(made)
        time.sleep(max(0.0, written / rate - (time.monotonic() - began)))
    return {"written": written, "seconds": time.monotonic() - began}


def _bad(root: str, run: str, site: str) -> tuple[str, bytes]:
    """A place and what is left there: noise, or the beginning of what an envelope looks like."""
    folder = random.choice(
        [
            f"from/{site}/{run}",
            f"from/{site}/{run}",
            f"from/{site}/other",
            f"from/{random.randbytes(4).hex()}/{run}",
            f"to/{site}/{run}",
            f"all/{run}",
        ]
    )
    name = random.choice([random.randbytes(32).hex(), f"x{random.randbytes(8).hex()}.tmp"])
    envelope = json.dumps({"envelope": {"kind": "reply", "sender": site, "run": run}}).encode()
    data = random.choice([random.randbytes(random.randrange(MOST_BYTES)), envelope[:-9], b""])
    return f"{root}/{folder}/{name}", data


def _write_file(path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(path).write_bytes(data)


def _put_object(path: str, data: bytes) -> None:
    """By a server that asks for no signature; s3fs would take longer than the server."""
    url, kind = (
        f"{os.environ['AWS_ENDPOINT_URL']}/{path}",
        {"Content-Type": "application/octet-stream"},
    )
    with urlopen(Request(url, data, kind, method="PUT"), timeout=60) as answer:
        answer.read()


if __name__ == "__main__":
    print(json.dumps(flood(*json.loads(sys.argv[1]))))
