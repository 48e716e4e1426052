"""What a product of factors is multiplied by before it is added to the frozen weight."""

from __future__ import annotations

import math
from collections.abc import Callable

Scaling = Callable[[int], float]
"""rank -> factor of the product of an adapter of this rank."""


def lora_scaling(alpha: float, *, is_rank_stabilised: bool = False) -> Scaling:
    """alpha / r (Hu et al. 2022, section 4.1), or alpha / sqrt(r) where it is rank-stabilised.

    Kalajdzievski, A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA, 2023, theorem 3.2.
    https://arxiv.org/abs/2312.03732

    >>> lora_scaling(16.0)(4), lora_scaling(16.0, is_rank_stabilised=True)(4)
    (4.0, 8.0)
    """
    return lambda rank: alpha / (math.sqrt(rank) if is_rank_stabilised else rank)
