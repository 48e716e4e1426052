"""What a run tells while it goes: values handed to a sink. Never part of a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
      type: ``stage``, ``round_started``, ``client_train_completed``, ``node_error``,
        ``aggregation_completed`` or ``round_completed``.
      round: from 1; 0 outside rounds.
      rounds: how many rounds the run has.
      client: client id, where one is concerned.
      metrics: few finite numbers.
      message: one sentence for a person.
      seconds: what it took.
    """

    type: str
    round: int = 0
    rounds: int = 0
    client: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    message: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """A JSON value."""
        return {**vars(self), "metrics": dict(self.metrics)}


Emit = Callable[[Event], None]


def silent(event: Event) -> None:
    """A sink that drops events."""
