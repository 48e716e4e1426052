"""The site's audit log: every kind of tampering is found and named; a torn line blocks nobody."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.digests import canonical_json, digest_json
from fedcore.sites.audit_entry import GENESIS, LogBroken, make_entry
from fedcore.sites.audit_log import START, AuditLog, Verified


@pytest.fixture
def log(tmp_path):
    """Five entries; nothing waits for a disk."""
    made = AuditLog(tmp_path / "log.jsonl", clock=lambda: datetime(2026, 3, 1, 12, tzinfo=UTC))
    for number in range(5):
        made.append("released", run="heart", subject="train", details={"bytes": number})
    return made


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


def lines(log):
    return log.path.read_bytes().splitlines(keepends=True)


def forged(line, **changes):
    """The line with other values and a digest that fits them."""
    value = json.loads(line) | changes
    del value["digest"]
    return (canonical_json(value | {"digest": digest_json(value)}) + "\n").encode()


def test_entries_name_the_one_before(log):
    entries = list(log.entries())
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry.previous for entry in entries] == [GENESIS, *(e.digest for e in entries[:-1])]
    assert entries[0].ts == "2026-03-01T12:00:00.000Z" and entries[4].details == {"bytes": 4}
    assert log.verify() == Verified(5, entries[-1].digest) and log.head() == entries[-1].digest
    assert log.path.stat().st_mode & 0o777 == 0o600


def test_the_digest_is_that_of_the_line_without_it(log):
    for line in lines(log):
        value = json.loads(line)
        assert value.pop("digest") == digest_json(value)


def test_an_empty_log_holds_together(tmp_path):
    log = AuditLog(tmp_path / "none.jsonl")
    assert log.verify() == Verified(0, GENESIS) and log.head() == GENESIS
    assert log.verify(head=GENESIS).count == 0 and list(log.entries()) == []


def swapped(kept):
    return [kept[0], kept[2], kept[1], *kept[3:]]


TAMPERING = [
    ("a value", lambda k: [k[0], k[1].replace(b'"bytes":1', b'"bytes":9'), *k[2:]], "2: changed"),
    ("a space", lambda k: [k[0], k[1].replace(b'"bytes":1', b'"bytes": 1'), *k[2:]], "2: changed"),
    ("a key more", lambda k: [k[0], k[1].replace(b"{", b'{"x":1,', 1), *k[2:]], "2: changed"),
    ("rubbish", lambda k: [k[0], b"rubbish\n", *k[2:]], "2: changed"),
    ("an empty line", lambda k: [k[0], b"\n", *k[1:]], "2: changed"),
    ("a last one", lambda k: [*k[:4], k[4].replace(b'"bytes":4', b'"bytes":5')], "5: changed"),
    ("a new digest", lambda k: [k[0], forged(k[1], reason="x"), *k[2:]], "3: changed or inserted"),
    ("first removed", lambda k: k[1:], "1: removed: entry 1 is missing; here is 2"),
    ("one removed", lambda k: [*k[:2], *k[3:]], "3: removed: entry 3 is missing; here is 4"),
    ("two removed", lambda k: [*k[:1], *k[3:]], "2: removed: entry 2 is missing; here is 4"),
    ("reordered", swapped, "2: reordered: entry 3 stands before 2"),
    ("copied", lambda k: [*k[:3], k[1], *k[3:]], "4: inserted: entry 2 stands a second time"),
    ("forged in", lambda k: [*k[:2], forged(k[2], run="x"), *k[2:]], "4: inserted: entry 3"),
    ("of another log", lambda k: [*k[:2], forged(k[2], previous="a" * 64)], "3: changed or insert"),
]


@pytest.mark.parametrize(
    ("tamper", "message"), [t[1:] for t in TAMPERING], ids=[t[0] for t in TAMPERING]
)
def test_tampering_is_named_with_its_line(log, tamper, message):
    changed = tamper(lines(log))
    assert changed != lines(log)
    log.path.write_bytes(b"".join(changed))
    with pytest.raises(LogBroken, match=rf"log\.jsonl, line {message}") as caught:
        log.verify()
    assert "heart" not in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_changed_byte_before_the_end_is_found(tmp_path_factory, data):
    log = AuditLog(tmp_path_factory.mktemp("log") / "log.jsonl")
    for number in range(3):
        log.append("withheld", reason="paused", details={"fields": ["a", "b"], "n": number})
    whole = log.path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 2))
    byte = data.draw(st.integers(1, 255).filter(lambda value: value != whole[at]))
    log.path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
    with pytest.raises(LogBroken, match=r"line [123]: "):
        log.verify()


def test_a_cut_end_is_found_against_a_noted_head_only(log):
    noted, kept = log.head(), lines(log)
    assert log.verify(head=noted).count == 5
    log.path.write_bytes(b"".join(kept[:3]))
    assert log.verify().count == 3
    with pytest.raises(LogBroken, match=r"none of its 3 entries has the noted digest .* cut off"):
        log.verify(head=noted)
    log.path.write_bytes(b"".join(kept))
    log.append("released")
    assert log.verify(head=noted).count == 6  # a head noted earlier stays good


def test_a_log_written_anew_is_found_against_a_noted_head(log):
    noted = log.head()
    log.path.unlink()
    for _ in range(5):
        log.append("released", run="another")
    with pytest.raises(LogBroken, match="written anew"):
        log.verify(head=noted)


@pytest.mark.parametrize("keep", [1, 40, -1])
def test_a_torn_last_line_is_put_aside_and_marked(log, keep):
    whole = lines(log)
    torn = whole[4][:keep] if keep > 0 else b"\0" * 30 + whole[4][30:]
    log.path.write_bytes(b"".join(whole[:4]) + torn)
    assert log.verify() == Verified(4, json.loads(whole[3])["digest"], len(torn))
    assert log.head() == json.loads(whole[3])["digest"]
    entry = log.append("released")
    assert log.verify().torn == 0
    mended, last = list(log.entries())[4:]
    assert (mended.action, mended.reason) == ("mended", "torn_line") and last == entry
    aside = log.path.with_name(mended.details["kept"])
    assert aside.read_bytes() == torn and mended.details["bytes"] == len(torn)
    assert aside.stat().st_mode & 0o777 == 0o600


def test_a_last_line_that_lacks_only_its_end_stays(log):
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[:-1])
    assert log.append("released").seq == 6
    assert log.path.read_bytes().startswith(whole) and log.verify().count == 6


def test_nothing_is_added_to_a_changed_last_line(log):
    log.path.write_bytes(log.path.read_bytes().replace(b'"bytes":4', b'"bytes":5'))
    before = log.path.read_bytes()
    with pytest.raises(LogBroken, match=r"last line.*Nothing is added.*log verify"):
        log.append("released")
    assert log.path.read_bytes() == before


def test_a_full_disk_leaves_no_half_line(log, monkeypatch):
    before = log.path.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))
    with pytest.raises(OSError, match=r"log\.jsonl: the disk is full"):
        log.append("released")
    assert log.path.read_bytes() == before


def test_what_was_read_is_not_read_again(log):
    seen = list(log.since(START))
    cursor = seen[-1][1]
    assert list(log.since(cursor)) == []
    added = log.append("paused")
    assert [entry for entry, _ in log.since(cursor)] == [added]
    log.path.write_bytes(b"".join(lines(log)[:2]))
    with pytest.raises(LogBroken, match="shorter than it was: lines up to 5 were removed"):
        list(log.since(cursor))
    log.path.unlink()
    with pytest.raises(LogBroken, match="is gone, with 5 entries"):
        list(log.since(cursor))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"run": "r" * 201}, "run has 201 characters; at most 200"),
        ({"reason": 3}, "reason is a int; it must be text"),
        ({"details": {"x": {}}}, r"details\.x is a dict; entries hold flat JSON"),
        ({"details": {"x": [1]}}, r"details\.x is a int; it must be text"),
        ({"details": {"k" * 201: 1}}, "details has 201 characters"),
        ({"details": {"x": float("nan")}}, "not JSON compliant"),
        ({"details": {"x": ["y" * 200] * 90}}, "details make a line of .* bytes; at most 16384"),
    ],
)
def test_only_small_flat_entries(tmp_path, values, message):
    log = AuditLog(tmp_path / "log.jsonl")
    with pytest.raises(ValueError, match=message):
        log.append("released", **values)
    assert log.verify().count == 0


def test_a_text_with_line_ends_is_one_line(log):
    log.append("released", run="a\nb\u2028c\r", details={"fields": ["\n"]})
    assert log.verify().count == 6 and list(log.entries())[-1].run == "a\nb\u2028c\r"


def test_an_entry_does_not_depend_on_who_made_it(log):
    made = make_entry(
        1, "2026-03-01T12:00:00.000Z", GENESIS, "released", "heart", "train", "", {"bytes": 0}
    )
    assert made == next(log.entries())


APPENDING = """
import sys
from fedcore.sites.audit_log import AuditLog
log = AuditLog(sys.argv[1])
for _ in range(20):
    log.append("released", subject=sys.argv[2])
"""


def test_two_processes_do_not_fork_the_chain(tmp_path):
    path = tmp_path / "log.jsonl"
    writers = [
        subprocess.Popen([sys.executable, "-c", APPENDING, str(path), name]) for name in "ab"
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert AuditLog(path).verify().count == 40
    assert {entry.subject for entry in AuditLog(path).entries()} == {"a", "b"}
