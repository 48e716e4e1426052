"""What a run tells while it goes: one schema of events. Never part of a result.

The science states a :class:`Fact`: what happened, to whom, in which round. A sink
(:mod:`fedcore.event_sink`) gives it an identity, a time and a run, which makes it an
:class:`Event`, and appends that to the log (:mod:`fedcore.event_log`).
"""

from __future__ import annotations

import math
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

COORDINATOR = "coordinator"
WAITING = "waiting"  # of a coordinator's heartbeat within a stage; else the stage that begins
MAX_NAME = 200
MAX_STATUS = 64
MAX_MESSAGE = 500
MAX_METRICS = 32
_SQL_INTEGER = 2**63 - 1


class EventType(StrEnum):
    """Everything that can happen to a run."""

    NODE_HEARTBEAT = "node_heartbeat"
    ROUND_STARTED = "round_started"
    MODEL_DISPATCHED = "model_dispatched"
    CLIENT_TRAIN_STARTED = "client_train_started"
    CLIENT_TRAIN_COMPLETED = "client_train_completed"
    CLIENT_UPDATE_UPLOADED = "client_update_uploaded"
    AGGREGATION_STARTED = "aggregation_started"
    AGGREGATION_COMPLETED = "aggregation_completed"
    ROUND_COMPLETED = "round_completed"
    NODE_ERROR = "node_error"
    RUN_REQUESTED = "run_requested"
    RUN_PAUSED = "run_paused"
    RUN_RESUMED = "run_resumed"
    RUN_STOPPED = "run_stopped"


class Role(StrEnum):
    """What a node is in a run."""

    COORDINATOR = "coordinator"
    CLIENT = "client"


class InvalidEvent(ValueError):
    """A value that is no event; the message names the field, its value and the rule."""


@dataclass(frozen=True)
class Fact:
    """Something that happened in a run, before anybody looked at a clock.

    Attributes:
      type: what happened.
      status: how it went, in a word; docs/events.md lists the words of each type.
      round: from 1; 0 outside rounds.
      node_id: client id, or ``coordinator``.
      role: what that node is.
      latency_ms: milliseconds that it took; None where nothing was timed.
      payload_bytes: bytes that were handed over; None where nothing was.
      metrics: at most 32 finite numbers.
      message: one sentence for a person; cut after 500 characters.

    Raises:
      InvalidEvent: a value breaks its field's rule.
    """

    type: EventType
    status: str
    round: int = 0
    node_id: str = COORDINATOR
    role: Role = Role.COORDINATOR
    latency_ms: float | None = None
    payload_bytes: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    message: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", _member("type", self.type, EventType))
        object.__setattr__(self, "role", _member("role", self.role, Role))
        _text("status", self.status, MAX_STATUS)
        _text("node_id", self.node_id, MAX_NAME)
        _whole("round", self.round)
        if self.latency_ms is not None:
            _positive("latency_ms", self.latency_ms)
        if self.payload_bytes is not None:
            _whole("payload_bytes", self.payload_bytes)
        _numbers("metrics", self.metrics)
        if not isinstance(self.message, str):
            raise InvalidEvent(f"message={self.message!r} must be text.")
        if len(self.message) > MAX_MESSAGE:
            object.__setattr__(self, "message", self.message[: MAX_MESSAGE - 1] + "…")


@dataclass(frozen=True, kw_only=True)
class Event(Fact):
    """A fact with its identity: what the log keeps and what is sent on.

    Attributes:
      event_id: UUID of version 7: it sorts by time. The same in every place the event goes to.
      ts: seconds since 1970-01-01 UTC.
      run_id: the flow run's id; of a run without Prefect its chain's.

    Raises:
      InvalidEvent: a value breaks its field's rule.
    """

    event_id: str
    ts: float
    run_id: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _text("run_id", self.run_id, MAX_NAME)
        _positive("ts", self.ts)
        try:
            is_canonical = str(uuid.UUID(self.event_id)) == self.event_id
        except (ValueError, AttributeError, TypeError):
            is_canonical = False
        if not is_canonical:
            raise InvalidEvent(f"event_id={self.event_id!r} must be a UUID in lower case.")

    def to_json(self) -> dict[str, Any]:
        """A JSON value that ``from_json`` takes back."""
        value = {name: getattr(self, name) for name in FIELDS}
        plain = {"type": self.type.value, "role": self.role.value, "metrics": dict(self.metrics)}
        return value | plain

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Event:
        """The event that ``to_json`` described.

        Raises:
          InvalidEvent: a field is missing, unknown or breaks its rule.
        """
        if not isinstance(value, Mapping) or set(value) != set(FIELDS):
            found = sorted(value) if isinstance(value, Mapping) else value
            raise InvalidEvent(f"an event has the fields {list(FIELDS)}, not {found!r}.")
        return Event(**value)


# Identity first, as people read a line.
FIELDS = ("event_id", "ts", "run_id", *(one.name for one in fields(Fact)))

Emit = Callable[[Fact], None]


def silent(fact: Fact) -> None:
    """A sink that drops facts."""


def stamped(fact: Fact, *, run_id: str, ts: float, after: str = "") -> Event:
    """The fact as an event of a run at a time, with an id greater than ``after``."""
    known = {one.name: getattr(fact, one.name) for one in fields(Fact)}
    return Event(**known, event_id=time_ordered_id(ts, after), ts=ts, run_id=run_id)


def time_ordered_id(ts: float, after: str = "") -> str:
    """A UUID of version 7 (RFC 9562, section 5.7, with 12 bits of the millisecond's fraction).

    Args:
      ts: seconds since 1970.
      after: an id of this function; the new one sorts behind it even if the clock went back.

    >>> first = time_ordered_id(1700000000.0)
    >>> first[:15], time_ordered_id(0.0, first) > first
    ('018bcfe5-6800-7', True)
    """
    stamp = int(ts * 1000 * 4096)
    if after:
        before = uuid.UUID(after).int
        stamp = max(stamp, ((before >> 80) << 12 | (before >> 64) & 0xFFF) + 1)
    value = (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62
    return str(uuid.UUID(int=value | secrets.randbits(62)))


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """What an event may carry of some metrics: the finite ones, at most 32.

    Telling a run's progress must not fail because a score is undefined.
    """
    kept = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    return dict(list(kept.items())[:MAX_METRICS])


def _member(name: str, value: Any, kind: type[StrEnum]) -> StrEnum:
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(kind)
        raise InvalidEvent(f"{name}={value!r} must be one of {allowed}.") from None


def _text(name: str, value: Any, limit: int) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= limit:
        raise InvalidEvent(f"{name}={value!r} must be text of 1 to {limit} characters.")


def _whole(name: str, value: Any) -> None:
    if type(value) is not int or not 0 <= value <= _SQL_INTEGER:
        raise InvalidEvent(f"{name}={value!r} must be a whole number of at least 0.")


def _positive(name: str, value: Any) -> None:
    if type(value) not in (int, float) or not (math.isfinite(value) and value >= 0):
        raise InvalidEvent(f"{name}={value!r} must be a finite number of at least 0.")


def _numbers(name: str, value: Any) -> None:
    if not isinstance(value, Mapping) or len(value) > MAX_METRICS:
        raise InvalidEvent(f"{name}={value!r} must map at most {MAX_METRICS} names to numbers.")
    for key, number in value.items():
        _text(f"a name in {name}", key, MAX_STATUS)
        if type(number) not in (int, float) or not math.isfinite(number):
            raise InvalidEvent(f"{name}[{key!r}]={number!r} must be a finite number.")
