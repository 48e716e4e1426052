"""Events reach the log, or wait for it; the run never waits and never fails."""

import json
import os
import sqlite3
import subprocess
import sys
import time

import pytest

from fedcore import facts
from fedcore.event_log import EventLog, EventLogUnavailable
from fedcore.event_sink import MAX_WAITING, EventSink, deliver_leftovers

TELLER = """
import sys
from fedcore import facts
from fedcore.event_log import EventLog
from fedcore.event_sink import EventSink
from pathlib import Path
folder, count = Path(sys.argv[1]), int(sys.argv[2])
sink = EventSink(EventLog(f"sqlite:///{folder}/events.db"), "run", folder / "spool", warn=print)
for number in range(count):
    print(sink.tell(facts.warning(str(number))).event_id, flush=True)
"""

FULL_DISK = """
import resource, signal, sys, time
from fedcore import facts
from fedcore.event_log import EventLog
from fedcore.event_sink import EventSink
from pathlib import Path
folder = Path(sys.argv[1])
log = EventLog(f"sqlite:///{folder}/events.db")
with EventSink(log, "run", folder / "spool", warn=print) as sink:
    sink.tell(facts.run_requested())
    assert sink.flush(30)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
    for number in range(2000):
        sink.tell(facts.warning(str(number)))
    assert not sink.flush(1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    while not sink.flush(30):  # at once while the log is away
        time.sleep(0.1)
assert [event.message for event in log.history("run")[1:]] == [str(n) for n in range(2000)]
"""


@pytest.fixture
def log(tmp_path):
    return EventLog(f"sqlite:///{tmp_path / 'events.db'}", patience_seconds=0.05)


def messages(log):
    return [event.message for event in log.history("run")]


def until(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen in 30 s")


def tell(sink, *numbers):
    for number in numbers:
        sink.tell(facts.warning(str(number)))


def test_what_is_told_is_in_the_log_and_nothing_is_left(log, tmp_path):
    warned = []
    with EventSink(log, "run", tmp_path / "spool", warn=warned.append) as sink:
        tell(sink, *range(1200))
        assert sink.flush(30)
    assert messages(log) == [str(number) for number in range(1200)]
    assert list((tmp_path / "spool").iterdir()) == [] and warned == []


def test_a_locked_log_costs_the_run_nothing_and_gets_everything_in_order(log, tmp_path):
    log.append([])
    warned = []
    with EventSink(log, "run", tmp_path / "spool", warn=warned.append) as sink:
        tell(sink, "first")
        assert sink.flush(30)
        other = sqlite3.connect(tmp_path / "events.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        tell(sink, 1, 2)
        until(lambda: warned)
        tell(sink, 3)
        assert not sink.flush(0.1)
        other.execute("ROLLBACK")
        other.close()
        until(lambda: len(warned) == 2)
        assert sink.flush(30)
    assert messages(log) == ["first", "1", "2", "3"]
    assert "the run goes on" in warned[0] and "database is locked" in warned[0]
    assert warned[1] == "the event log answers again"


def test_a_damaged_log_is_named_and_the_events_wait_for_the_next_one(log, tmp_path):
    (tmp_path / "events.db").write_bytes(b"no database " * 1000)
    warned = []
    with EventSink(log, "run", tmp_path / "spool", warn=warned.append) as sink:
        tell(sink, 1, 2)
        until(lambda: warned)
        tell(sink, 3)
    assert len(warned) == 1 and "file is not a database" in warned[0]
    with pytest.raises(EventLogUnavailable, match="Move the file aside to begin a new log"):
        log.history("run")
    (tmp_path / "events.db").unlink()
    with EventSink(log, "run", tmp_path / "spool", warn=warned.append) as sink:
        tell(sink, 4)
        assert sink.flush(30)
    assert messages(log) == ["1", "2", "3", "4"]
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_log_that_is_removed_is_begun_again(log, tmp_path):
    with EventSink(log, "run", tmp_path / "spool", warn=print) as sink:
        tell(sink, 1)
        assert sink.flush(30)
        for file in tmp_path.glob("events.db*"):
            file.unlink()
        tell(sink, 2)
        assert sink.flush(30)
    assert messages(log) == ["2"]


def test_a_full_disk_stops_nothing_and_what_was_told_is_delivered_when_there_is_room(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "events wait in memory only" in done.stdout and "answers again" in done.stdout


def test_no_folder_for_the_spool_is_no_reason_to_stop(log, tmp_path):
    (tmp_path / "spool").write_text("a file")
    warned = []
    with EventSink(log, "run", tmp_path / "spool", warn=warned.append) as sink:
        tell(sink, 1)
        assert sink.flush(30)
    assert messages(log) == ["1"] and "events wait in memory only" in warned[0]


def test_when_no_more_can_be_kept_it_says_how_much_is_lost(log, tmp_path, monkeypatch):
    monkeypatch.setattr("fedcore.event_sink.MAX_WAITING", 3)
    assert MAX_WAITING >= 10_000
    warned = []
    with EventSink(log, "run", tmp_path / "spool", warn=warned.append) as sink:
        (tmp_path / "events.db").mkdir()  # what cannot be opened
        tell(sink, *range(5))
        until(lambda: warned)
        (tmp_path / "events.db").rmdir()
        until(lambda: len(warned) == 2)
    assert messages(log) == ["0", "1", "2"]
    assert "2 came when no more could be kept, and are lost" in warned[1]


def test_what_a_killed_process_told_is_in_the_log_afterwards(log, tmp_path):
    """Killed at any moment: told is acknowledged, in the log or in the spool."""
    command = [sys.executable, "-c", TELLER, tmp_path, "1000000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline() for _ in range(500)]
    assert deliver_leftovers(tmp_path / "spool", log) == 0  # it lives: that file is its own
    process.kill()
    told = ("".join(lines) + process.communicate()[0]).split()
    deliver_leftovers(tmp_path / "spool", EventLog(f"sqlite:///{tmp_path / 'events.db'}"))
    there = [event.event_id for event in log.history("run")]
    assert there[: len(told)] == told and len(there) <= len(told) + 1
    assert list((tmp_path / "spool").iterdir()) == []


def test_leftovers_of_the_dead_are_delivered_and_those_of_the_living_left(log, tmp_path):
    spool = tmp_path / "spool"
    alive = EventSink(log, "alive", spool, warn=print)
    event = alive.tell(facts.run_requested())
    assert alive.flush(30)
    another = event.event_id[:-1] + ("1" if event.event_id.endswith("0") else "0")
    line = json.dumps(event.to_json() | {"event_id": another, "run_id": "run"})
    (spool / "dead.jsonl").write_text(line + "\n" + line[:30])  # torn when it died
    assert deliver_leftovers(spool, log) == 1
    assert len(log.history("run")) == 1
    assert [path.stat().st_size for path in spool.iterdir()] == [0]
    alive.close()
    assert deliver_leftovers(tmp_path / "nowhere", log) == 0


def test_nothing_told_opens_no_log(log, tmp_path):
    EventSink(log, "run", tmp_path / "spool", warn=print).close()
    assert not os.path.exists(tmp_path / "events.db")
