"""The same laws for the event log in SQLite and in Postgres."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import pytest

from fedcore import facts
from fedcore.event_log import EventLog, EventLogUnavailable
from fedcore.events import EventType, stamped

WRITER = """
import sys
from fedcore import facts
from fedcore.event_log import EventLog
from fedcore.events import stamped
log, last = EventLog(sys.argv[1]), ""
for number in range(int(sys.argv[3])):
    event = stamped(facts.warning(str(number)), run_id=sys.argv[2], ts=0.0, after=last)
    last = event.event_id
    log.append([event])
    print(last, flush=True)
"""


@pytest.fixture(scope="module")
def postgres():
    """The URL of a server of Debian's postgresql, in a folder of its own."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="fedloom-postgres-"))
    user = {"user": "postgres"} if os.geteuid() == 0 else {}
    if user:
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    initdb = [programs[-1] / "initdb", "-D", folder / "data", "-U", "fed", "-A", "trust", "-N"]
    subprocess.run(initdb, cwd=folder, check=True, capture_output=True, **user)
    options = [f"-cport={port}", "-clisten_addresses=127.0.0.1", "-cunix_socket_directories="]
    server = subprocess.Popen(
        [programs[-1] / "postgres", "-D", folder / "data", *options],
        cwd=folder,
        stderr=subprocess.DEVNULL,
        **user,
    )
    try:
        url = f"postgresql://fed@127.0.0.1:{port}/postgres"
        for _ in range(300):
            try:
                EventLog(url).append([one("warm-up")])
                break
            except EventLogUnavailable:
                time.sleep(0.1)
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # fast: SIGTERM waits for connections in pools
        server.wait(30)
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def url(request, tmp_path):
    if request.param == "postgres":
        return request.getfixturevalue("postgres")
    return f"sqlite:///{tmp_path / 'sub' / 'events.db'}"


@pytest.fixture
def run():
    return f"run-{uuid.uuid4()}"


def one(run, message="", fact=None, after=""):
    return stamped(fact or facts.warning(message), run_id=run, ts=1700000000.0, after=after)


def many(run, count):
    return [one(run, str(number)) for number in range(count)]


def messages(events):
    return [event.message for event in events]


def test_what_was_appended_is_read_back_in_its_order_by_anybody(url, run):
    log = EventLog(url)
    assert log.history(run) == [] and log.snapshot(run).status == "unknown"
    told = [
        one(run, fact=facts.run_requested()),
        one(run, fact=facts.round_completed(1, rounds=2, overall={"auc": 0.5}, latency_ms=0.1)),
        *many(run, 3),
    ]
    log.append(told[:2])
    log.append(told[2:])
    log.append([])
    EventLog(url).append(many("another-run", 2))
    assert EventLog(url).history(run) == told
    assert log.snapshot(run).lines[0].metrics == {"auc": 0.5}


def test_an_event_is_kept_once(url, run):
    log, told = EventLog(url), many(run, 4)
    log.append(told[:3])
    log.append(told[1:])
    log.append([told[0], told[0]])
    assert log.history(run) == told


def test_history_in_pages_and_by_type(url, run):
    log, told = EventLog(url), many(run, 5)
    told.insert(2, one(run, fact=facts.run_paused()))
    log.append(told)
    assert log.history(run, limit=2) == told[:2]
    assert log.history(run, after=told[1].event_id, limit=2) == told[2:4]
    assert log.history(run, after=told[-1].event_id) == []
    assert log.history(run, types=[EventType.RUN_PAUSED]) == [told[2]]
    with pytest.raises(LookupError, match="has no event 'unheard-of'"):
        log.history(run, after="unheard-of")


def test_follow_tells_what_comes_until_the_run_stopped(url, run):
    log, told = EventLog(url), many(run, 3)
    log.append(told[:1])
    stop = one(run, fact=facts.run_stopped("completed"))

    def write():
        for event in (*told[1:], stop):
            time.sleep(0.02)
            EventLog(url).append([event])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert list(EventLog(url).follow(run, poll_seconds=0.01)) == [*told, stop]
    finally:
        writer.join()
    behind = log.follow(run, after=told[1].event_id, is_over=lambda: True)
    assert list(behind) == [told[2], stop]


def test_processes_append_at_once_and_what_was_acknowledged_outlives_a_kill(url, run):
    command = [sys.executable, "-c", WRITER, url]
    kept = [
        subprocess.Popen([*command, f"{run}-{n}", "40"], stdout=subprocess.PIPE, text=True)
        for n in (0,)
    ]
    killed = [
        subprocess.Popen([*command, f"{run}-{n}", "100000"], stdout=subprocess.PIPE, text=True)
        for n in (1, 2)
    ]
    acknowledged = {}
    for number, process in enumerate(kept):
        acknowledged[number] = process.communicate()[0].split()
        assert process.returncode == 0
    for number, process in enumerate(killed, 1):
        lines = [process.stdout.readline() for _ in range(20)]
        process.kill()
        acknowledged[number] = ("".join(lines) + process.communicate()[0]).split()
    for number, ids in acknowledged.items():
        there = [event.event_id for event in EventLog(url).history(f"{run}-{number}")]
        assert len(ids) >= 20 and there[: len(ids)] == ids
        assert len(there) <= len(ids) + 1  # committed, and killed before it could say so


def test_a_reader_never_misses_an_event_of_a_slower_writer(url, run):
    """What follows an event in the log was committed behind it."""
    log = EventLog(url)
    writers = [
        threading.Thread(target=lambda: [EventLog(url).append([e]) for e in many(run, 25)])
        for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    seen, after = [], ""
    while any(writer.is_alive() for writer in writers) or log.history(run, after=after):
        page = log.history(run, after=after)
        seen += page
        after = page[-1].event_id if page else after
    assert len(seen) == len({event.event_id for event in seen}) == 100
    assert seen == log.history(run)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://u:secret@host/db", r"mysql://u:\*\*\*@host/db must be sqlite:///FILE or"),
        ("sqlite://", "must be sqlite:///FILE"),
        ("nonsense secret", "the URL of the event log is none; take sqlite:///FILE"),
    ],
)
def test_another_url_is_refused_without_its_password(url, told):
    with pytest.raises(ValueError, match=told) as refused:
        EventLog(url)
    assert "secret" not in str(refused.value)


def test_a_server_that_is_down_is_named_without_its_password(run):
    log = EventLog("postgresql://fed:secret@127.0.0.1:1/db")
    with pytest.raises(EventLogUnavailable, match="Does the server answer") as refused:
        log.append([one(run)])
    assert "secret" not in str(refused.value) and "fed:***@127.0.0.1:1/db" in str(refused.value)
