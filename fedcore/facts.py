"""The facts that a run states, each said in one place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fedcore.aggregate import Aggregate
from fedcore.events import WAITING, Emit, EventType, Fact, Role, finite
from fedcore.jobs import ClientJob
from fedcore.outcomes import ClientOutcome, ClientUpdate, Done


def run_requested() -> Fact:
    """Somebody asked for the run and it begins."""
    return Fact(EventType.RUN_REQUESTED, "requested")


def run_resumed(round: int) -> Fact:
    """A run that was tried before goes on behind its last committed round."""
    return Fact(EventType.RUN_RESUMED, "resumed", round)


def run_paused(message: str = "") -> Fact:
    """The run waits for its operator; no process of it works."""
    return Fact(EventType.RUN_PAUSED, "paused", message=message)


def run_stopped(status: str, message: str = "") -> Fact:
    """The run ended: completed, failed, cancelled or crashed; a retry may go on."""
    return Fact(EventType.RUN_STOPPED, status, message=message)


def stage(name: str, **metrics: float) -> Fact:
    """The coordinator is alive and does this now: audit, partition, rounds, evaluation, ..."""
    return Fact(EventType.NODE_HEARTBEAT, name, metrics=metrics)


def waiting(message: str) -> Fact:
    """The coordinator is alive and says who is asked and waited for; the stage is the same."""
    return Fact(EventType.NODE_HEARTBEAT, WAITING, message=message)


def warning(message: str) -> Fact:
    """Something that the operator should know and that stops nothing."""
    return Fact(EventType.NODE_ERROR, "warning", message=message)


def failure(error: Exception) -> Fact:
    """The coordinator cannot go on."""
    return Fact(EventType.NODE_ERROR, "failed", message=f"{type(error).__name__}: {error}")


def round_started(round: int, *, clients: int, rounds: int) -> Fact:
    """So many clients are asked, in this round of so many."""
    metrics = {"clients": clients, "rounds": rounds}
    return Fact(EventType.ROUND_STARTED, "started", round, metrics=metrics)


def round_completed(
    round: int, *, rounds: int, overall: Mapping[str, float], latency_ms: float
) -> Fact:
    """The round is in the chain; ``overall`` are its metrics, empty where it was not evaluated."""
    metrics = {"rounds": rounds, **overall}
    return Fact(
        EventType.ROUND_COMPLETED,
        "committed",
        round,
        latency_ms=latency_ms,
        metrics=finite(metrics),
    )


def handed_over(jobs: list[ClientJob], emit: Emit) -> Iterator[ClientJob]:
    """The jobs, each told as an engine takes it."""
    for job in jobs:
        emit(_of(job, EventType.MODEL_DISPATCHED, "sent", payload_bytes=job.base.size))
        emit(_of(job, EventType.CLIENT_TRAIN_STARTED, "started"))
        yield job


def came_back(job: ClientJob, outcome: ClientOutcome) -> Iterator[Fact]:
    """What a client's outcome says: that training ended, and its update or the reason for none.

    The latency of what the memo answered is what it took when it was done.
    """
    if not isinstance(outcome, Done):
        yield _of(job, EventType.CLIENT_TRAIN_COMPLETED, outcome.status)
        yield client_error(job.round, job.client, outcome.status, outcome.reason)
        return
    yield _of(
        job,
        EventType.CLIENT_TRAIN_COMPLETED,
        "reused" if outcome.reused else "done",
        latency_ms=1000 * outcome.seconds,
        metrics=finite(outcome.result.metrics),
    )
    if isinstance(outcome.result, ClientUpdate):
        status = "reused" if outcome.reused else "received"
        size, staleness = outcome.result.delta.size, outcome.result.staleness
        late = {"staleness": staleness} if staleness else {}
        yield _of(job, EventType.CLIENT_UPDATE_UPLOADED, status, payload_bytes=size, metrics=late)


def client_error(round: int, client: str, status: str, reason: str) -> Fact:
    """A client failed, was absent or refused, or was refused by the coordinator."""
    return Fact(EventType.NODE_ERROR, status, round, client, Role.CLIENT, message=reason)


def not_admitted(round: int, site: str, code: str, count: int) -> Fact:
    """What a site left did not pass the trust boundary; where ``count`` is above 1, so many times
    since the last event of this kind."""
    return Fact(
        EventType.NODE_ERROR,
        "not-admitted",
        round,
        site,
        Role.CLIENT,
        metrics={"count": count},
        message=code,
    )


def aggregation_started(round: int, *, updates: int) -> Fact:
    """So many updates are checked and averaged."""
    return Fact(EventType.AGGREGATION_STARTED, "started", round, metrics={"updates": updates})


def aggregation_completed(round: int, combined: Aggregate, *, updates: int, ms: float) -> Fact:
    """The next model is there; ``updates`` were given and some of them refused. Of adapters also
    how far their product is from the mean product."""
    refused, error = len(combined.refused), combined.adapters.get("error")
    off = {} if error is None else {"adapter_error": error}
    return Fact(
        EventType.AGGREGATION_COMPLETED,
        "done",
        round,
        latency_ms=ms,
        payload_bytes=combined.model.params.size,
        metrics={"updates": updates - refused, "refused": refused, **off},
    )


def _of(job: ClientJob, type: EventType, status: str, **more: Any) -> Fact:
    return Fact(type, status, job.round, job.client, Role.CLIENT, **more)
