"""The model that a round starts from and ends with, by digest."""

from __future__ import annotations

from dataclasses import dataclass

from fedcore.refs import Ref
from fedcore.staleness import MOST_STALENESS


@dataclass(frozen=True)
class GlobalModel:
    """Trainable parameters and server optimizer state after a round.

    Attributes:
      round: 0 before the first.
      params: blob of named float32 arrays.
      state: blob of named float64 arrays, or None when the algorithm keeps none.
      before: digests of the parameters of the rounds before, the last one first; a late update
        started from one of them.
    """

    round: int
    params: Ref
    state: Ref | None = None
    before: tuple[str, ...] = ()

    def then(self, params: Ref, state: Ref | None) -> GlobalModel:
        """The model one round later."""
        before = (self.params.digest, *self.before)[:MOST_STALENESS]
        return GlobalModel(self.round + 1, params, state, before)

    def base(self, staleness: int) -> str | None:
        """Digest of what an update of so many rounds ago started from; None: too long ago."""
        bases = (self.params.digest, *self.before)
        return bases[staleness] if 0 <= staleness < len(bases) else None
