"""What a client's job comes back with: done, or one of three ways of not being done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from fedcore.refs import Ref


@dataclass(frozen=True)
class ClientUpdate:
    """What a client learned in one round.

    Attributes:
      base: digest of the model it started from.
      delta: local minus global parameters, only what is trainable.
      num_examples: training samples it used.
      metrics: few finite numbers, e.g. mean training loss.
      staleness: rounds by which it came late; 0: it is of the round that takes it.
    """

    base: str
    delta: Ref
    num_examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    staleness: int = 0
    kind: Literal["update"] = "update"


@dataclass(frozen=True)
class Evaluation:
    """How a model does on one split of one client (or of the central data).

    Attributes:
      num_examples: samples evaluated.
      metrics: as :func:`fedcore.evaluation.measure` gives.
      scores: (n, outputs) probabilities in float32 as a blob, only where the job asked for them.
    """

    num_examples: int
    metrics: Mapping[str, float]
    scores: Ref | None = None
    kind: Literal["evaluation"] = "evaluation"


@dataclass(frozen=True)
class Done:
    """The job was done; ``key`` is its identity, ``seconds`` what it took when it was done."""

    client: str
    key: str
    result: Annotated[ClientUpdate | Evaluation, Field(discriminator="kind")]
    reused: bool = False
    seconds: float = 0.0
    status: Literal["done"] = "done"


@dataclass(frozen=True)
class Refused:
    """The client, or the check of what it sent, said no."""

    client: str
    key: str
    reason: str
    status: Literal["refused"] = "refused"


@dataclass(frozen=True)
class Failed:
    """The client tried and could not."""

    client: str
    key: str
    reason: str
    status: Literal["failed"] = "failed"


@dataclass(frozen=True)
class Absent:
    """Nothing came back."""

    client: str
    key: str
    reason: str = "no answer"
    status: Literal["absent"] = "absent"


ClientOutcome = Annotated[Done | Refused | Failed | Absent, Field(discriminator="status")]
_ADAPTER: TypeAdapter[Any] = TypeAdapter(ClientOutcome)


def outcome_to_json(outcome: Done | Refused | Failed | Absent) -> dict[str, Any]:
    """A JSON value that ``outcome_from_json`` takes back."""
    return _ADAPTER.dump_python(outcome, mode="json")


def outcome_from_json(value: Any) -> Done | Refused | Failed | Absent:
    """The outcome that ``outcome_to_json`` described; ``ValueError`` when it is none."""
    return _ADAPTER.validate_python(value)
