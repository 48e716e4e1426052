"""fedloom run --resume, --extend, --fork, --dry-run and questions, without any server."""

import re

import pytest
from typer.testing import CliRunner

from deployments.cli import asking
from deployments.cli.main import app
from fedcore.decisions import ApprovalNeeded, Question, Verdict

SMALL = """
data: {kind: digits, limit: 200}
partition: {kind: iid, clients: 3}
audit: {remedy: accept}
model: {kind: logistic}
rounds: {count: 2}
speed: {workers: 0}
"""
HERE = ("--in-process", "-p", "speed.workers=0")
QUESTION = Question("audit", 0, "Begin training?", ("a", "b"), 1)


def call(*words):
    done = CliRunner().invoke(app, ["run", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def value(done, name):
    found = re.search(rf"^{name} +(\S+)", done.stdout, re.MULTILINE)
    assert found, done.output
    return found[1].rstrip(",")


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLOOM_HOME", str(tmp_path / "home"))
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    return file


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give one of FILE, --resume, --extend, --fork; none was given"),
        (["x.yaml", "--resume", "1c00"], "FILE and --resume was given"),
        (["--extend", "1c00"], "--rounds and --extend belong together"),
        (["x.yaml", "--rounds", "3"], "--rounds and --extend belong together"),
        (["--fork", "1c00"], "--at-round and --fork belong together"),
        (["--resume", "1c00", "-p", "seed=1"], "-p seed cannot change a run that goes on"),
        (["--resume", "1c00", "--in-process"], "run='1c00' is neither an id"),
    ],
)
def test_what_does_not_go_together_is_refused(words, told):
    done = call(*words)
    assert done.exit_code == 1 and told in done.stderr.replace("\n", " ")


@pytest.mark.slow
def test_runs_in_process_grow_and_fork(small):
    first = call(small, "--in-process")
    run_id = value(first, "run")
    again = call("--resume", run_id[:12], *HERE)
    assert value(again, "final digest") == value(first, "final digest")

    longer = call("--extend", run_id, "--rounds", 3, *HERE)
    assert "round 3 of 3" in longer.stdout and "round 2 of 3" not in longer.stdout
    alone = call(small, "--in-process", "-p", "rounds.count=3")
    assert value(longer, "final digest") == value(alone, "final digest")

    fork = ["--fork", run_id, *HERE]
    done = call(*fork, "--at-round", 1, "-p", "training.learning_rate=0.5")
    assert value(done, "final digest") != value(first, "final digest")
    assert "seed=7 cannot change" in call(*fork, "--at-round", 1, "-p", "seed=7").stderr
    assert "has 2 committed rounds" in call(*fork, "--at-round", 3).stderr


def test_a_dry_run_trains_nothing_and_can_go_on(small):
    planned = call(small, "--in-process", "--dry-run")
    assert planned.exit_code == 0 and "nothing was trained" in planned.stdout
    assert "rounds        0 finished, 2 in all" in planned.stdout
    done = call("--resume", value(planned, "run"), *HERE)
    assert value(done, "final digest") == value(call(small, "--in-process"), "final digest")


def test_without_a_terminal_a_question_ends_the_run_with_the_way_out(small):
    done = call(small, "--in-process", "-p", "approvals.audit=always")
    assert done.exit_code == 1 and "Begin training?" in done.stderr
    assert "--resume local-" in done.stderr.replace("\n", "")


def test_a_terminal_is_asked_until_the_answer_can_be_carried_out(monkeypatch, capsys):
    ask = asking.asking("run")
    with pytest.raises(ApprovalNeeded, match="no terminal"):
        ask(None, QUESTION)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    said = iter(["drop clients", "a, b", "me", "odd", "drop clients", "a", "me", "odd"])
    monkeypatch.setattr("typer.prompt", lambda *_, **__: next(said))
    answer = ask(None, QUESTION)
    assert (answer.verdict, answer.clients, answer.who) == (Verdict.DROP, ("a",), "me")
    assert "Not taken: dropping ['a', 'b'] leaves 0 clients" in capsys.readouterr().out
