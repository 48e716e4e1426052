"""Where a run stands, as its events tell it: a value folded over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from fedcore.events import WAITING, Event, EventType, Role

TRAINED = {"done", "reused"}
LEFT_OUT = {"failed", "refused", "absent"}
# What a run's own events say of its state.
RUN_STATUS = {
    EventType.RUN_REQUESTED: "running",
    EventType.RUN_RESUMED: "running",
    EventType.RUN_PAUSED: "paused",
}


@dataclass(frozen=True)
class RoundLine:
    """A finished round.

    Attributes:
      metrics: of the model it made; empty where it was not evaluated.
      seconds: from asking the cohort to the commit.
      failed: ``client: reason`` of those left out.
      trained: clients whose update arrived.
    """

    round: int
    metrics: Mapping[str, float]
    seconds: float
    failed: tuple[str, ...] = ()
    trained: int = 0

    @property
    def remark(self) -> str:
        """What was unusual: clients that failed, or a draw of nobody."""
        if self.failed:
            return f"failed: {'; '.join(self.failed)}"
        # Everybody who is asked trains, answers from the memo, or fails.
        return "" if self.trained else "nobody drawn"


@dataclass(frozen=True)
class Node:
    """The last that was heard of a client, or of the coordinator.

    Attributes:
      doing: type of its last event.
      status: of its last event.
      ts: when that was, seconds since 1970 UTC.
      latency_ms: of its last training; None before that.
      bytes_up: sum of its updates.
      errors: how often it failed.
    """

    role: Role
    doing: EventType
    status: str
    round: int
    ts: float
    latency_ms: float | None = None
    bytes_up: int = 0
    errors: int = 0


@dataclass(frozen=True)
class Snapshot:
    """What the events so far say of a run.

    Attributes:
      status: ``unknown`` before its first event, then ``running``, ``paused``, ``completed``,
        ``failed``, ``cancelled`` or ``crashed``. Prefect's state is the authority: a process
        that was killed could say nothing.
      stage: what the run does now.
      round: the round under way, from 1; 0 before the first.
      rounds: how many there will be; 0 while unknown.
      trained: clients done in the round under way.
      failed: ``client: reason`` of those that failed in that round.
      lines: finished rounds, oldest first.
      nodes: node id -> the last that was heard of it.
      event_id: the last event, "" before the first; ``after`` for what comes next.
      ts: when that was, seconds since 1970 UTC.
    """

    status: str = "unknown"
    stage: str = "waiting"
    round: int = 0
    rounds: int = 0
    trained: int = 0
    failed: tuple[str, ...] = ()
    lines: tuple[RoundLine, ...] = ()
    nodes: Mapping[str, Node] = field(default_factory=dict)
    event_id: str = ""
    ts: float = 0.0


def advance(snapshot: Snapshot, events: Iterable[Event]) -> Snapshot:
    """The snapshot after some more events, in the order of the log."""
    last: Event | None = None
    nodes = dict(snapshot.nodes)  # once: a round of a thousand clients is thousands of events
    for event in events:
        nodes[event.node_id] = _heard(nodes.get(event.node_id), event)
        snapshot, last = _after(snapshot, event), event
    if last is None:
        return snapshot
    return replace(snapshot, nodes=nodes, event_id=last.event_id, ts=last.ts)


def _after(now: Snapshot, event: Event) -> Snapshot:
    rounds = int(event.metrics.get("rounds", now.rounds))
    match event.type:
        case EventType.RUN_REQUESTED | EventType.RUN_RESUMED | EventType.RUN_PAUSED:
            return replace(now, status=RUN_STATUS[event.type])
        case EventType.RUN_STOPPED:
            return replace(now, status=event.status)
        case EventType.NODE_HEARTBEAT if event.role is Role.COORDINATOR and event.status != WAITING:
            return replace(now, stage=event.status, rounds=rounds)
        case EventType.ROUND_STARTED:
            return replace(now, round=event.round, rounds=rounds, trained=0, failed=())
        case EventType.CLIENT_TRAIN_COMPLETED if event.status in TRAINED:
            return replace(now, trained=now.trained + 1)
        case EventType.NODE_ERROR if event.role is Role.CLIENT and event.status in LEFT_OUT:
            return replace(now, failed=(*now.failed, f"{event.node_id}: {event.message}"))
        case EventType.ROUND_COMPLETED:
            scores = {name: value for name, value in event.metrics.items() if name != "rounds"}
            seconds = (event.latency_ms or 0.0) / 1000
            line = RoundLine(event.round, scores, seconds, now.failed, now.trained)
            # A retried run may tell a round again.
            kept = tuple(each for each in now.lines if each.round < event.round)
            return replace(now, round=event.round, rounds=rounds, lines=(*kept, line))
    return now


def _heard(node: Node | None, event: Event) -> Node:
    last = node or Node(event.role, event.type, event.status, event.round, event.ts)
    uploaded = event.type is EventType.CLIENT_UPDATE_UPLOADED
    has_trained = event.type is EventType.CLIENT_TRAIN_COMPLETED
    failed = event.type is EventType.NODE_ERROR and event.status in LEFT_OUT
    return replace(
        last,
        doing=event.type,
        status=event.status,
        round=event.round,
        ts=event.ts,
        latency_ms=event.latency_ms if has_trained else last.latency_ms,
        bytes_up=last.bytes_up + (event.payload_bytes or 0) * uploaded,
        errors=last.errors + failed,
    )
