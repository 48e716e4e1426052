import json

from rich.console import Console

from deployments.cli.progress import (
    Progress,
    advance,
    plain_line,
    read_events,
    render,
    rounds_table,
)

EVENTS = [
    {"type": "stage", "message": "rounds", "rounds": 3},
    {"type": "round_started", "round": 1, "rounds": 3},
    {"type": "client_train_completed", "round": 1, "client": "a"},
    {"type": "node_error", "round": 1, "client": "b", "message": "returned NaN"},
    {"type": "round_completed", "round": 1, "rounds": 3, "seconds": 2.0, "metrics": {"loss": 0.5}},
]


def test_progress_is_what_the_events_say():
    progress = advance(Progress(), EVENTS)
    assert (progress.stage, progress.round, progress.rounds, progress.trained) == (
        "rounds",
        1,
        3,
        1,
    )
    assert progress.lines[0].failed == ("b: returned NaN",)


def test_events_in_pieces_are_the_same_as_at_once():
    once = advance(Progress(), EVENTS)
    assert advance(advance(Progress(), EVENTS[:2]), EVENTS[2:]) == once


def test_unknown_events_change_nothing():
    assert advance(Progress(), [{"type": "weather", "message": "rain"}]) == Progress()


def test_a_retried_run_tells_its_rounds_once():
    again = advance(Progress(), [*EVENTS, *EVENTS])
    assert [line.round for line in again.lines] == [1]


def test_a_half_written_line_waits(tmp_path):
    file = tmp_path / "events.jsonl"
    assert read_events(file, 0) == ([], 0)
    whole = json.dumps(EVENTS[0]) + "\n"
    file.write_text(whole + '{"type": "sta')
    events, offset = read_events(file, 0)
    assert events == EVENTS[:1]
    assert offset == len(whole)
    file.write_text(whole + '{"type": "stage", "message": "done"}\n')
    assert read_events(file, offset)[0] == [{"type": "stage", "message": "done"}]


def test_a_round_is_one_line_for_logs():
    line = advance(Progress(), EVENTS).lines[0]
    assert plain_line(line, 3) == "round 1 of 3: loss 0.5000, 2.0 s; failed: b: returned NaN"


def test_a_round_that_drew_nobody_says_so():
    nobody = [event for event in EVENTS if event["type"].startswith("round")]
    (line,) = advance(Progress(), nobody).lines
    assert plain_line(line, 3) == "round 1 of 3: loss 0.5000, 2.0 s; nobody drawn"
    one = [event for event in EVENTS if event["type"] != "node_error"]
    assert advance(Progress(), one).lines[0].remark == ""
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(rounds_table(advance(Progress(), [*nobody, *again(one, 2)]).lines))
    assert [line.split()[-1] for line in console.export_text().splitlines()[1:]] == ["drawn", "2.0"]


def again(events, number):
    return [event | {"round": number} for event in events]


def test_the_live_display_tells_stage_round_and_scores():
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(advance(Progress(), EVENTS), 12.0, state="Running"))
    text = console.export_text()
    assert "round 1 of 3" in text
    assert "0.5000" in text
    assert "12 s" in text
