import json

import pytest
from typer.testing import CliRunner

from deployments.cli.main import app
from fedcore import facts
from fedcore.event_sink import EventSink
from fedcore.events import Event, EventType
from tasks import home


def call(*words):
    return CliRunner().invoke(app, ["events", *words])


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLOOM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FEDLOOM_EVENTS", raising=False)
    return home.event_log()


@pytest.fixture
def told(log):
    with EventSink(log, "my-run", home.spool(), warn=print) as sink:
        return [
            sink.tell(facts.run_requested()),
            sink.tell(facts.round_completed(1, rounds=2, overall={"auc": 0.75}, latency_ms=1500.0)),
            sink.tell(facts.client_error(1, "hospital-1", "failed", "no luck")),
            sink.tell(facts.run_stopped("completed")),
        ]


def test_a_table_for_people(told):
    done = call("my-run")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    shown = "1 round_completed coordinator committed 1.50 s rounds 2 auc 0.75"
    assert " ".join(lines[1].split()[2:]) == shown
    assert lines[2].endswith("hospital-1      failed      no luck")


def test_json_lines_are_the_events(told):
    done = call("my-run", "--json")
    assert [Event.from_json(json.loads(line)) for line in done.stdout.splitlines()] == told


def test_only_the_wanted_types(told):
    done = call("my-run", "--json", "-t", "node_error", "--type", "run_stopped")
    types = [json.loads(line)["type"] for line in done.stdout.splitlines()]
    assert types == [EventType.NODE_ERROR, EventType.RUN_STOPPED]
    assert call("my-run", "-t", "run_paused").exit_code == 0  # it has none, and is known
    refused = call("my-run", "-t", "weather")
    assert refused.exit_code == 1 and "--type weather: no such type; there are" in refused.stderr


def test_follow_ends_with_the_run(told):
    assert len(call("my-run", "--follow").stdout.splitlines()) == 4


def test_what_a_killed_process_left_is_brought_in(told, log):
    event = facts.warning("late")
    sink = EventSink(log, "my-run", home.spool(), warn=print)
    last = told[-1].event_id
    another = last[:-1] + ("b" if last.endswith("a") else "a")
    line = sink.tell(event).to_json() | {"event_id": another}
    sink.close()
    (home.spool() / "dead.jsonl").write_text(json.dumps(line) + "\n")
    assert len(call("my-run").stdout.splitlines()) == 6


def test_an_unknown_run_and_an_unreadable_log_say_so(log):
    done = call("nobody")
    assert done.exit_code == 1 and "has nothing of a run 'nobody'" in done.stderr
    home.home().mkdir()
    (home.home() / "events.db").write_bytes(b"x" * 5000)
    done = call("nobody")
    assert done.exit_code == 1 and "Move the file aside to begin a new log" in done.stderr
