"""What a flow tells while it goes: to the event log, to Prefect under the same event id, and to the
operator's console. Nothing of it can stop a run."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from prefect import runtime
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.events import emit_event
from prefect.exceptions import Pause
from prefect.logging import get_logger, get_run_logger

from fedcore import facts
from fedcore.aggregation import GROUP
from fedcore.event_sink import EventSink
from fedcore.events import WAITING, Emit, Event, EventType, Fact, Role
from tasks import home
from tasks.aside import aside, guarded
from tasks.data import has_begun

# Four events for every client and round: of large cohorts they are in the log only, because
# Prefect's server takes about 95 events a second.
ROUTINE = {
    EventType.MODEL_DISPATCHED,
    EventType.CLIENT_TRAIN_STARTED,
    EventType.CLIENT_TRAIN_COMPLETED,
    EventType.CLIENT_UPDATE_UPLOADED,
}
ENDED = {"CANCELLING": "cancelled"}


@contextmanager
def telling(flow_run_id: str, rounds: int, chain: str) -> Iterator[Emit]:
    """The sink of a flow run's body; ``chain`` is the run whose rounds it commits, if any.

    Tells by itself that the run was requested, goes on, is paused, or met an error. How it ended is
    told by :func:`tell_end`, which knows the state.
    """
    logger = get_run_logger()
    with (
        aside(console_progress(rounds), logger.warning) as show,
        EventSink(home.event_log(), flow_run_id, home.spool(), warn=logger.warning) as sink,
    ):
        forward = guarded(to_prefect(), logger.warning)

        def tell(fact: Fact) -> None:
            event = sink.tell(fact)
            forward(event)
            show(event)

        was_tried = (runtime.flow_run.run_count or 0) > 1 or has_begun(chain)
        tell(facts.run_resumed(_committed(chain)) if was_tried else facts.run_requested())
        try:
            yield tell
        except Pause as pause:
            tell(facts.run_paused(getattr(pause.state, "message", None) or ""))
            raise
        except Exception as error:
            tell(facts.failure(error))
            raise


def tell_end(flow: Any, flow_run: Any, state: Any) -> None:
    """A state hook: the run completed, failed, crashed or was cancelled.

    For the last two it is called by the worker, since the run's own process may be gone.
    """
    warn = get_logger("fedloom.events").warning
    status = ENDED.get(state.type.value, state.type.value.lower())
    forward = guarded(to_prefect(), warn)
    with EventSink(home.event_log(), str(flow_run.id), home.spool(), warn=warn) as sink:
        forward(sink.tell(facts.run_stopped(status, state.message or "")))


def to_prefect() -> Callable[[Event], None]:
    """Sends events on to Prefect's server, in the background: ``fedloom.TYPE``, with the same id.

    Automations react to the resource, so what they ask for is in its labels. Each event carries the
    stage in which it happened.
    """
    stage, clients = "", 0.0

    def send(event: Event) -> None:
        nonlocal stage, clients
        is_stage = event.type is EventType.NODE_HEARTBEAT and event.status != WAITING
        if is_stage and event.role is Role.COORDINATOR:
            stage = event.status
        if event.type is EventType.ROUND_STARTED:
            clients = event.metrics["clients"]
        if event.type in ROUTINE and clients > GROUP:
            return
        emit_event(
            event=f"fedloom.{event.type}",
            id=uuid.UUID(event.event_id),
            occurred=datetime.fromtimestamp(event.ts, UTC),
            resource={
                "prefect.resource.id": f"fedloom.node.{event.node_id}",
                "prefect.resource.name": event.node_id,
                "fedloom.run_id": event.run_id,
                "fedloom.role": event.role.value,
                "fedloom.status": event.status,
                "fedloom.round": str(event.round),
                "fedloom.stage": stage,
            },
            related=[
                {
                    "prefect.resource.id": f"prefect.flow-run.{event.run_id}",
                    "prefect.resource.role": "flow-run",
                }
            ],
            payload=event.to_json(),
        )

    return send


def console_progress(rounds: int) -> Callable[[Event], None]:
    """Moves a progress bar in the operator's console and logs each round's scores."""
    artifact: Any = rounds and create_progress_artifact(
        progress=0.0, key="progress", description=f"{rounds} rounds"
    )
    logger = get_run_logger()

    def show(event: Event) -> None:
        if event.type is EventType.ROUND_COMPLETED:
            shown = {name: value for name, value in event.metrics.items() if name != "rounds"}
            scores = ", ".join(f"{k} {v:.4g}" for k, v in shown.items())
            logger.info("round %d of %d: %s", event.round, rounds, scores or "not evaluated")
            update_progress_artifact(
                artifact,
                progress=100.0 * event.round / rounds,
                description=f"round {event.round} of {rounds}",
            )
        elif event.type is EventType.NODE_ERROR and event.role is Role.CLIENT:
            logger.warning("round %d: client %s: %s", event.round, event.node_id, event.message)
        elif event.type is EventType.NODE_ERROR and event.status == "warning":
            logger.warning(event.message)

    return show


def _committed(run_id: str) -> int:
    """Rounds in the run's chain."""
    return len(list(home.store().names(f"runs/{run_id}/rounds")))
