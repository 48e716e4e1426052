"""What a product of factors is multiplied by before it is added to the frozen weight."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Scaling:
    """alpha / r (Hu et al. 2022, section 4.1), or alpha / sqrt(r) where it is rank-stabilised.

    Kalajdzievski, A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA, 2023.
    https://arxiv.org/abs/2312.03732

    >>> Scaling(16.0)(4), Scaling(16.0, is_rank_stabilised=True)(4)
    (4.0, 8.0)
    """

    alpha: float
    is_rank_stabilised: bool = False

    def __call__(self, rank: int) -> float:
        """The factor of the product of an adapter of this rank."""
        return self.alpha / (math.sqrt(rank) if self.is_rank_stabilised else rank)
