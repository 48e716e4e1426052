"""The model that a round starts from and ends with, by digest."""

from __future__ import annotations

from dataclasses import dataclass

from fedcore.refs import Ref


@dataclass(frozen=True)
class GlobalModel:
    """Trainable parameters and server optimizer state after a round.

    Attributes:
      round: 0 before the first.
      params: blob of named float32 arrays.
      state: blob of named float64 arrays, or None when the algorithm keeps none.
    """

    round: int
    params: Ref
    state: Ref | None = None
