from itertools import groupby

import pytest
from rich.console import Console

from deployments.cli.following import FlowRun, ServerSilent, follow_run, watch
from deployments.cli.progress import narrate, plain_line, render, rounds_table
from deployments.stack.stack import Stack
from fedcore.events import stamped
from fedcore.facts import stage, waiting
from fedcore.snapshot import RoundLine, Snapshot

FAILED = RoundLine(1, {"loss": 0.5}, 2.0, failed=("b: returned NaN",), trained=1)
NOBODY = RoundLine(1, {"loss": 0.5}, 2.0)
GOOD = RoundLine(2, {"loss": 0.5}, 2.0, trained=3)


def shown(renderable):
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(renderable)
    return console.export_text()


def test_a_round_is_one_line_for_logs():
    assert plain_line(FAILED, 3) == "round 1 of 3: loss 0.5000, 2.0 s; failed: b: returned NaN"
    assert plain_line(NOBODY, 3) == "round 1 of 3: loss 0.5000, 2.0 s; nobody drawn"
    assert plain_line(RoundLine(2, {}, 1.0, trained=3), 3) == "round 2 of 3: not evaluated, 1.0 s"


def test_the_table_has_remarks_only_where_something_was_unusual():
    rows = shown(rounds_table([NOBODY, GOOD])).splitlines()[1:]
    assert [row.split()[-1] for row in rows] == ["drawn", "2.0"]
    assert "drawn" not in shown(rounds_table([GOOD]))


def test_the_live_display_tells_stage_round_and_scores():
    now = Snapshot(stage="rounds", round=1, rounds=3, trained=1, lines=(FAILED,))
    text = shown(render(now, 12.0, state="Running"))
    for told in ("round 1 of 3", "1 clients trained", "0.5000", "12 s"):
        assert told in text
    assert "(paused)" in shown(render(now, 12.0, state="Paused"))


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (Snapshot(stage="rounds", rounds=3), ["rounds  5 s"]),
        (Snapshot(lines=(GOOD,), rounds=3), ["round 2 of 3: loss 0.5000, 2.0 s"]),
        (Snapshot(trained=2), []),
    ],
)
def test_a_log_tells_stages_and_finished_rounds(after, told):
    assert list(narrate(Snapshot(), after, 5.0)) == told


def following(monkeypatch, tmp_path, answers, patience=60.0):
    """What `watch` shows of a run when the server answers so."""

    def read(stack, flow_run_id):
        answer = answers.pop(0)
        if answer is None:
            raise ServerSilent("Prefect does not answer.")
        return FlowRun("an-id", "a run", answer, answer.title(), "", 0.0)

    monkeypatch.setattr("deployments.cli.following.read_flow_run", read)
    monkeypatch.setattr("deployments.cli.following.POLL_SECONDS", 0)
    monkeypatch.setattr("deployments.cli.following.SILENCE_SECONDS", patience)
    return [run.state_type for run, _ in watch(Stack(tmp_path, 4200, 5000, {}), "an-id")]


def test_a_server_that_is_silent_for_a_while_is_waited_for(monkeypatch, tmp_path, capsys):
    answers = ["RUNNING", None, None, "RUNNING", None, "COMPLETED"]
    seen = following(monkeypatch, tmp_path, answers)
    assert [one for one, _ in groupby(seen)] == ["RUNNING", "COMPLETED"]
    assert capsys.readouterr().err.count("Waiting for it") == 2


def test_a_server_that_stays_silent_is_not(monkeypatch, tmp_path):
    with pytest.raises(ServerSilent):
        following(monkeypatch, tmp_path, ["RUNNING", None], patience=-1.0)
    with pytest.raises(ServerSilent):
        following(monkeypatch, tmp_path, [None])


def test_who_is_waited_for_is_told_to_who_follows(monkeypatch, tmp_path, capsys):
    run = FlowRun("an-id", "a run", "COMPLETED", "Completed", "", 0.0)
    told = [
        stamped(one, run_id="an-id", ts=1.0) for one in (stage("audit"), waiting("waiting for va"))
    ]
    monkeypatch.setattr("deployments.cli.following.read_flow_run", lambda stack, id: run)
    monkeypatch.setattr("deployments.cli.following.watch", lambda stack, id: [(run, told)])
    _, progress = follow_run(Stack(tmp_path, 4200, 5000, {}), "an-id")
    assert capsys.readouterr().out.splitlines() == ["audit  0 s", "waiting for va"]
    assert progress.stage == "audit"
