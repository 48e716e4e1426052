"""The fold over events: where a run stands."""

from fedcore import facts
from fedcore.events import EventType, Fact, Role, stamped
from fedcore.snapshot import Snapshot, advance


def client(type, status, node, round=1, **more):
    return Fact(type, status, round, node, Role.CLIENT, **more)


def completed(node, status="done", **more):
    return client(EventType.CLIENT_TRAIN_COMPLETED, status, node, **more)


def events(*told):
    return [
        stamped(fact, run_id="run", ts=1700000000.0 + second) for second, fact in enumerate(told)
    ]


def round_one():
    return (
        facts.round_started(1, clients=2, rounds=3),
        completed("a", latency_ms=500.0),
        client(EventType.CLIENT_UPDATE_UPLOADED, "received", "a", payload_bytes=100),
        completed("b", "failed"),
        facts.client_error(1, "b", "failed", "returned NaN"),
        facts.round_completed(1, rounds=3, overall={"loss": 0.5}, latency_ms=2000.0),
    )


def test_a_snapshot_is_what_the_events_say():
    told = events(facts.run_requested(), facts.stage("rounds", rounds=3), *round_one())
    now = advance(Snapshot(), told)
    assert (now.status, now.stage, now.round, now.rounds) == ("running", "rounds", 1, 3)
    assert (now.trained, now.event_id, now.ts) == (1, told[-1].event_id, told[-1].ts)
    (line,) = now.lines
    assert (line.metrics, line.seconds, line.trained) == ({"loss": 0.5}, 2.0, 1)
    assert line.remark == "failed: b: returned NaN"
    a, b = now.nodes["a"], now.nodes["b"]
    assert (a.latency_ms, a.bytes_up, a.errors, a.doing) == (
        500.0,
        100,
        0,
        EventType.CLIENT_UPDATE_UPLOADED,
    )
    assert (b.errors, b.status, b.latency_ms) == (1, "failed", None)


def test_events_in_pieces_are_the_same_as_at_once():
    told = events(facts.run_requested(), *round_one())
    pieces = Snapshot()
    for event in told:
        pieces = advance(pieces, [event])
    assert pieces == advance(Snapshot(), told)


def test_a_retried_run_tells_its_rounds_once():
    again = advance(Snapshot(), events(*round_one(), facts.run_resumed(0), *round_one()))
    assert [line.round for line in again.lines] == [1]


def test_the_status_follows_pause_resume_and_end():
    told = events(
        facts.run_requested(),
        facts.run_paused(),
        facts.run_resumed(1),
        facts.run_stopped("cancelled", "by the operator"),
        facts.run_resumed(1),
        facts.run_stopped("completed"),
    )
    seen = [advance(Snapshot(), told[: n + 1]).status for n in range(len(told))]
    assert seen == ["running", "paused", "running", "cancelled", "running", "completed"]
    assert Snapshot().status == "unknown"


def test_only_what_left_a_client_out_counts_as_its_failure():
    again = Fact(EventType.NODE_ERROR, "missing-3", 1, "b", Role.CLIENT, message="again")
    told = [facts.warning("odd"), facts.failure(ValueError("bad")), *round_one()[:-1], again]
    now = advance(Snapshot(), events(*told))
    assert now.failed == ("b: returned NaN",)
    assert (now.nodes["b"].errors, now.nodes["coordinator"].errors) == (1, 1)


def test_a_round_that_drew_nobody_says_so():
    started, *_, done = round_one()
    (line,) = advance(Snapshot(), events(started, done)).lines
    assert line.remark == "nobody drawn"


def test_who_is_waited_for_is_told_within_the_stage():
    told = events(facts.stage("rounds", rounds=3), facts.waiting("round 1: waiting for a"))
    now = advance(Snapshot(), told)
    assert (now.stage, now.rounds, told[-1].message) == ("rounds", 3, "round 1: waiting for a")
