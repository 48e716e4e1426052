"""Where a run stands, for people: an event file that the CLI follows and a bar in the console."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from fedcore.events import Event

EVENTS = "events.jsonl"


def event_log(folder: Path) -> Callable[[Event], None]:
    """A sink that appends events with their time to ``events.jsonl``; losing it stops no run."""
    path = folder / EVENTS

    def write(event: Event) -> None:
        line = {"ts": round(time.time(), 3), **event.to_json()}
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            get_run_logger().warning("progress could not be written to %s: %s", path, error)

    return write


def console_progress(rounds: int) -> Callable[[Event], None]:
    """A sink that moves a progress bar in the operator's console and logs each round's scores."""
    artifact: Any = create_progress_artifact(
        progress=0.0, key="progress", description=f"{rounds} rounds"
    )

    def show(event: Event) -> None:
        logger = get_run_logger()
        if event.type == "round_completed":
            update_progress_artifact(
                artifact,
                progress=100.0 * event.round / event.rounds,
                description=f"round {event.round} of {event.rounds}",
            )
            scores = ", ".join(f"{k} {v:.4g}" for k, v in event.metrics.items())
            logger.info("round %d of %d: %s", event.round, event.rounds, scores or "not evaluated")
        elif event.type == "warning":
            logger.warning(event.message)
        elif event.type == "node_error":
            logger.warning("round %d: client %s: %s", event.round, event.client, event.message)

    return show
