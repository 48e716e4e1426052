"""Bad requests to a gateway of sites, by who has two sites' tokens: a process of its own."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any
from uuid import uuid4

CONNECTIONS = 32
LASTS = 50  # requests over one connection, where the gateway does not close it before
CLAIMED, SENT = 50 * 2**20, 2**16  # bytes of an oversized body: in its header, and those that come
PATIENCE = 30.0
POLL = "/api/work_pools/sites/get_scheduled_flow_runs"
FORBIDDEN = (
    ("GET", "/api/block_documents/name/x"),
    ("POST", "/api/flow_runs/"),
    ("POST", "/api/logs/filter"),
    ("DELETE", "/api/work_pools/sites/queues/x"),
    ("PUT", "/api/variables/name/x"),
    ("GET", "/../../etc/passwd"),
    ("TRACE", "/"),
)


def start_flood(
    port: int, tokens: Sequence[str], sister: str, seconds: float, rate: float
) -> subprocess.Popen[str]:
    """Begins; standard output is what :func:`flood` gives. The tokens go over standard input."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gateway_flood"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    print(json.dumps([port, list(tokens), sister, seconds, rate]), file=process.stdin, flush=True)
    return process


async def flood(
    port: int, tokens: list[str], sister: str, seconds: float, rate: float
) -> dict[str, Any]:
    """``rate`` bad requests a second, or as many as are answered.

    Args:
      tokens: of the sites that take part in the attack.
      sister: name of another site.

    Returns:
      ``answers``: status -> how often, ``closed`` where there came none; ``seconds``: of it all.
    """
    random.seed(0)
    answers, began = Counter[str](), time.monotonic()
    turns = iter([began + number / rate for number in range(int(seconds * rate))])
    await asyncio.gather(
        *(
            _attack(port, turns, tokens, sister, answers, began + seconds)
            for _ in range(CONNECTIONS)
        )
    )
    return {"answers": dict(answers), "seconds": time.monotonic() - began}


async def _attack(
    port: int,
    turns: Iterator[float],
    tokens: list[str],
    sister: str,
    answers: Counter[str],
    ends: float,
) -> None:
    """One connection after the other; a turn belongs to whoever is free."""
    is_open, goes_on = True, False
    while is_open:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        is_open = False
        for due in islice(turns, LASTS):
            if (now := time.monotonic()) >= ends:
                break
            is_open = True
            await asyncio.sleep(max(0.0, due - now))
            writer.write(bad_request(tokens, sister))
            try:
                status, goes_on = await asyncio.wait_for(_answer(reader), PATIENCE)
            except (OSError, EOFError, TimeoutError):
                status, goes_on = "closed", False
            answers[status] += 1
            if not goes_on:
                break
        writer.close()


def bad_request(tokens: Sequence[str], sister: str) -> bytes:
    """No token, a wrong one, another's queue, what no site may ask, no JSON, or far too much."""
    known, wrong = random.choice(tokens), random.randbytes(32).hex()
    method, path = random.choice(FORBIDDEN)
    form = {"state": {"type": "COMPLETED"}, "force": True}
    set_state = f"/api/flow_runs/{uuid4()}/set_state"
    token, method, path, body = random.choice(
        [
            ("", "POST", POLL, b"{}"),
            ("", method, path, b""),
            (wrong, "POST", POLL, b"{}"),
            (wrong, "GET", "/api/health", b""),
            (known, "POST", POLL, json.dumps({"work_queue_names": [sister]}).encode()),
            (known, "GET", f"/api/work_pools/sites/queues/{sister}", b""),
            (known, "POST", set_state, json.dumps(form).encode()),
            (known, method, path, b""),
            (
                known,
                "POST",
                POLL,
                random.choice([b"{", b"[" * 5000, b"\xff" * 100, b'{"limit":-1}']),
            ),
        ]
    )
    claimed = len(body)
    if random.random() < 0.02:
        method, path, claimed, body = "POST", POLL, CLAIMED, bytes(SENT)
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway", f"Content-Length: {claimed}"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _answer(reader: asyncio.StreamReader) -> tuple[str, bool]:
    """An answer's status, and whether the connection stays open."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length or 0))
    return head[9:12].decode(), b"connection: close" not in head


if __name__ == "__main__":
    print(json.dumps(asyncio.run(flood(*json.loads(sys.stdin.readline())))))
