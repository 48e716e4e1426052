"""A client's work in a round, and its identity: the job key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from fedcore.digests import digest_json
from fedcore.refs import Ref


class JobKind(StrEnum):
    """What a client is asked to do."""

    TRAIN = "train"
    EVALUATE = "evaluate"


@dataclass(frozen=True)
class ClientJob:
    """A pure function's arguments, by digest.

    Attributes:
      client: client id.
      round: from 1.
      seed: the run's seed.
      base: trainable parameters to start from.
      data: this client's samples of the one split the job needs.
      settings: JSON: only what this client's result depends on (model, task, preprocessing and,
        for training, optimizer, learning rate of the round and drift).
      numerics: JSON: what parity is claimed within (device kind, dtype, backend, releases).
      code: digest of the sources that do the work.
      model: JSON of the model's settings with its paths; not in the key, where ``settings`` holds
        the model's identity instead.
      state: the client's own state from earlier rounds, where the algorithm has one.
      keep_scores: evaluation keeps every sample's scores as a blob.
      data_budget: JSON of what the client's data may tell in all runs, or None; not in the key,
        because it changes only whether the work is done.
    """

    kind: JobKind
    client: str
    round: int
    seed: int
    base: Ref
    data: Ref
    settings: Mapping[str, Any]
    numerics: Mapping[str, Any]
    code: str
    model: Mapping[str, Any]
    state: Ref | None = None
    keep_scores: bool = False
    data_budget: Mapping[str, float] | None = None

    @cached_property
    def key(self) -> str:
        """SHA-256 identity of the work. Evaluation draws nothing: who and when are not in it."""
        draws = [self.seed, self.round, self.client] if self.kind is JobKind.TRAIN else []
        return digest_json(
            {
                "kind": self.kind.value,
                "base": self.base.digest,
                "data": self.data.digest,
                "state": self.state.digest if self.state else None,
                "settings": dict(self.settings),
                "numerics": dict(self.numerics),
                "code": self.code,
                "draws": draws,
                "keep_scores": self.keep_scores,
            }
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON value that ``from_json`` takes back."""
        return asdict(self) | {"kind": self.kind.value, "settings": dict(self.settings)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> ClientJob:
        """The job that ``to_json`` described."""
        refs = {
            name: Ref(**value[name]) if value[name] else None for name in ("base", "data", "state")
        }
        return ClientJob(**{**value, **refs, "kind": JobKind(value["kind"])})
