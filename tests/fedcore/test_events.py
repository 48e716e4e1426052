"""The schema: every rule of every field, the round trip, ids that sort by time."""

import json
import math
import uuid

import pytest

from fedcore import facts
from fedcore.events import (
    FIELDS,
    MAX_MESSAGE,
    Event,
    EventType,
    Fact,
    InvalidEvent,
    Role,
    finite,
    stamped,
    time_ordered_id,
)

WHOLE = stamped(
    Fact(
        EventType.CLIENT_TRAIN_COMPLETED,
        "done",
        round=3,
        node_id="hospital-1",
        role=Role.CLIENT,
        latency_ms=12.5,
        payload_bytes=2**40,
        metrics={"loss": 0.25},
        message="trained",
    ),
    run_id="run-1",
    ts=1700000000.123456,
)


def test_an_event_survives_json():
    text = json.dumps(WHOLE.to_json(), allow_nan=False)
    assert Event.from_json(json.loads(text)) == WHOLE
    assert list(WHOLE.to_json()) == list(FIELDS)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("type", "weather", "type='weather' must be one of node_heartbeat, round_started"),
        ("role", "judge", "role='judge' must be one of coordinator, client"),
        ("status", "", "status='' must be text of 1 to 64 characters"),
        ("status", 3, "status=3 must be text"),
        ("node_id", "x" * 201, "must be text of 1 to 200 characters"),
        ("run_id", "", "run_id='' must be text"),
        ("round", -1, "round=-1 must be a whole number of at least 0"),
        ("round", True, "round=True must be a whole number"),
        ("round", 1.0, "round=1.0 must be a whole number"),
        ("payload_bytes", 2**63, "payload_bytes=9223372036854775808 must be a whole number"),
        ("latency_ms", -0.5, "latency_ms=-0.5 must be a finite number of at least 0"),
        ("latency_ms", math.nan, "latency_ms=nan must be a finite number"),
        ("ts", math.inf, "ts=inf must be a finite number"),
        ("ts", None, "ts=None must be a finite number"),
        ("metrics", {"loss": math.nan}, r"metrics\['loss'\]=nan must be a finite number"),
        ("metrics", {"loss": True}, r"metrics\['loss'\]=True must be a finite number"),
        ("metrics", {"": 1.0}, "a name in metrics='' must be text"),
        ("metrics", {str(n): 1.0 for n in range(33)}, "at most 32 names"),
        ("metrics", [1.0], r"metrics=\[1.0\] must map at most 32 names"),
        ("message", None, "message=None must be text"),
        ("event_id", "1", "event_id='1' must be a UUID in lower case"),
        ("event_id", "0190C5A0-7B1E-7ABC-8DEF-0123456789AB", "must be a UUID in lower case"),
        ("event_id", None, "event_id=None must be a UUID"),
    ],
)
def test_a_wrong_value_is_refused_by_name(field, value, told):
    with pytest.raises(InvalidEvent, match=told):
        Event.from_json(WHOLE.to_json() | {field: value})


@pytest.mark.parametrize("change", ["missing", "extra", "none"])
def test_an_event_has_all_fields_and_no_others(change):
    value = WHOLE.to_json()
    if change == "missing":
        del value["round"]
    if change == "extra":
        value["weather"] = "rain"
    with pytest.raises(InvalidEvent, match="an event has the fields"):
        Event.from_json(None if change == "none" else value)


def test_a_long_message_is_cut_and_undefined_scores_are_left_out():
    assert facts.warning("x" * 2000).message == "x" * (MAX_MESSAGE - 1) + "…"
    many = {"auc": math.nan, "loss": 1, **{str(n): 0.5 for n in range(40)}}
    assert list(finite(many))[:2] == ["loss", "0"] and len(finite(many)) == 32
    fact = facts.round_completed(1, rounds=3, overall=many, latency_ms=1.0)
    assert fact.metrics["rounds"] == 3 and "auc" not in fact.metrics


def test_ids_sort_by_time_and_behind_the_one_before_when_the_clock_goes_back():
    ids, last = [], ""
    for ts in (5.0, 5.0, 5.0001, 4.0, 4.0, 1700000000.0):
        last = time_ordered_id(ts, last)
        ids.append(last)
    assert ids == sorted(ids) and len(set(ids)) == 6
    assert {uuid.UUID(one).version for one in ids} == {7}
    assert {uuid.UUID(one).variant for one in ids} == {uuid.RFC_4122}
    assert uuid.UUID(ids[-1]).int >> 80 == 1700000000000
