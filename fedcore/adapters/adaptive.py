"""Ranks by what they carry: a budget of parameters poured over the layers' singular values.

After Zhang et al., AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning, ICLR
2023, with the singular values of the aggregated product as importance.
https://arxiv.org/abs/2303.10512
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import numpy as np


def choose_ranks(
    spectra: Mapping[str, np.ndarray], costs: Mapping[str, int], budget: int
) -> dict[str, int]:
    """layer -> rank, at least 1, so that ``sum rank * cost <= budget``.

    Directions are taken by energy (squared singular value) per parameter, the largest first, as
    long as they fit. Singular values fall within a layer, so that its directions are taken in
    order. With equal costs no choice keeps more energy; else this is the greedy rule for knapsacks.

    Args:
      spectra: layer -> (r,) singular values, falling; r is the highest rank.
      costs: layer -> parameters of one direction: inputs + outputs.
      budget: parameters in all.

    Raises:
      ValueError: it is too small for one direction in each layer.

    >>> choose_ranks({"k": np.array([3.0, 2.0]), "q": np.array([1.0, 0.5])}, {"k": 5, "q": 5}, 15)
    {'k': 2, 'q': 1}
    """
    ranks = dict.fromkeys(sorted(spectra), 1)
    left = budget - sum(costs[name] for name in ranks)
    if left < 0:
        raise ValueError(
            f"budget={budget} parameters are less than the {budget - left} of one direction in "
            f"each of {len(ranks)} layers; raise aggregation.adapters.budget."
        )
    waiting: list[tuple[float, int, str]] = []

    def offer(name: str) -> None:
        if (taken := ranks[name]) < len(spectra[name]):
            energy = float(spectra[name][taken]) ** 2
            heapq.heappush(waiting, (-energy / costs[name], taken, name))

    for name in ranks:
        offer(name)
    while waiting:
        _, _, name = heapq.heappop(waiting)
        if costs[name] <= left:
            left -= costs[name]
            ranks[name] += 1
            offer(name)
    return ranks
