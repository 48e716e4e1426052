"""The mailbox benchmark counts what it says, and its flood stays where it belongs. No numbers."""

import asyncio
import json
import random

import pytest

from benchmarks.gateway_flood import CLAIMED, bad_request
from benchmarks.gateway_flood import flood as flood_gateway
from benchmarks.mailbox import _cell, report
from benchmarks.mailbox_flood import flood
from benchmarks.mailbox_parties import Trace, traced
from fedcore.sites.mailbox import Mailbox
from fedcore.store import Store


def test_requests_are_recorded_until_the_block_ends(tmp_path):
    mailbox = Mailbox(Store(tmp_path))
    with traced() as trace:
        assert mailbox.read("from/ward/run/a", 9) is None
        assert mailbox.post("from/ward/run/a", b"x") and mailbox.holds("from/ward/run/a")
    mailbox.read("from/ward/run/a", 9)
    assert [did for _, did, _ in trace.requests] == ["read", "post", "holds"]
    assert len(trace.posted("from/")) == 1 and trace.posted("to/") == []
    first, second, _ = (at for at, _, _ in trace.requests)
    assert trace.count("from/", since=second) == 2 and trace.count("from/", since=first) == 3
    assert Trace().count("from/", since=0) == 0


def test_the_flood_writes_messages_in_the_mailbox_only(tmp_path):
    told = flood(str(tmp_path / "mailbox"), "run", ["ward"], seconds=0.15, rate=200)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert told["written"] == len(files) > 9
    assert {path.relative_to(tmp_path).parts[0] for path in files} == {"mailbox"}
    assert {path.relative_to(tmp_path).parts[1] for path in files} <= {"to", "from", "all"}


def test_a_cell_reads_well():
    assert [_cell(one) for one in (0.0517, 7380.2, {}, {"not_json": 2}, [0.1, 0.2, 300])] == [
        "0.0517",
        "7380",
        "none",
        "not_json 2",
        "0.2 (0.1 to 300)",
    ]


def test_a_report_keeps_the_parts_before(tmp_path, capsys):
    report(tmp_path, {"s3": {"load": 1.5}})
    report(tmp_path, {"folder": {"load": 0.5}, "s3": {"load": 2.5}})
    assert [*json.loads((tmp_path / "mailbox.json").read_text())["parts"]] == ["folder", "s3"]
    text = (tmp_path / "mailbox.md").read_text()
    assert "| load | 0.5 | 2.5 |" in text and text.count("Not measured yet.") == 2


def test_every_bad_request_is_a_request_that_no_site_may_make():
    random.seed(1)
    requests = [bad_request(["t" * 43], "ward") for _ in range(500)]
    heads = [one.partition(b"\r\n\r\n")[0].decode() for one in requests]
    assert all(" HTTP/1.1\r\nHost: gateway\r\nContent-Length: " in head for head in heads)
    assert {head.split()[0] for head in heads} >= {"GET", "POST", "DELETE", "PUT", "TRACE"}
    assert any(f"Length: {CLAIMED}" in head for head in heads) and max(map(len, requests)) < 10**5


@pytest.mark.slow
def test_a_flood_of_requests_comes_at_its_rate_and_counts_the_answers():
    async def door(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}")
        writer.write(b"")
        await writer.drain()
        writer.close()

    async def flooded():
        async with await asyncio.start_server(door, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await flood_gateway(port, ["t"], "ward", seconds=1.0, rate=50)

    told = asyncio.run(flooded())
    assert sum(told["answers"].values()) <= 50 and told["answers"]["401"] > 5
