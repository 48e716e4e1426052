"""The weighted mean of updates, in one canonical order of additions.

Groups of 64 in client-id order, float64 partial sums, groups added in order: whoever follows the
group boundaries (shards, tiers) gets the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

GROUP = 64


def canonical_mean(
    updates: Iterable[tuple[Mapping[str, np.ndarray], float]],
) -> dict[str, np.ndarray]:
    """sum_k w_k x_k / sum_k w_k over updates in client-id order, streaming.

    McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data,
    AISTATS 2017, algorithm 1 (with w_k the number of examples). Memory: two models in float64.

    Args:
      updates: (named arrays of any float dtype, weight >= 0), sorted by client id.

    Returns:
      named float64 arrays.

    Raises:
      ValueError: no update, or weights that add up to zero.

    >>> canonical_mean([({"w": np.array([1.0])}, 1.0), ({"w": np.array([4.0])}, 2.0)])["w"]
    array([3.])
    """
    weights, group_weights, count = 0.0, 0.0, 0

    def counted() -> Iterator[tuple[Mapping[str, np.ndarray], float]]:
        nonlocal weights, group_weights, count
        for update, weight in updates:
            yield update, weight
            group_weights += float(weight)
            count += 1
            if count % GROUP == 0:
                weights, group_weights = weights + group_weights, 0.0

    total = canonical_sum(counted())
    weights += group_weights
    if not weights > 0:
        raise ValueError(f"the weights of {count} updates add up to {weights}; nothing to average.")
    return {name: value / weights for name, value in total.items()}


def canonical_sum(
    updates: Iterable[tuple[Mapping[str, np.ndarray], float]],
) -> dict[str, np.ndarray]:
    """sum_k w_k x_k, as :func:`canonical_mean` adds; empty for no update.

    Raises:
      ValueError: a weight is negative or not finite.
    """
    total: dict[str, np.ndarray] = {}
    partial: dict[str, np.ndarray] = {}
    for count, (update, weight) in enumerate(updates, 1):
        if not np.isfinite(weight) or weight < 0:
            raise ValueError(f"weight={weight} of update {count - 1} must be finite and >= 0.")
        partial = _plus(partial, {k: v.astype(np.float64) * weight for k, v in update.items()})
        if count % GROUP == 0:
            total, partial = _plus(total, partial), {}
    return _plus(total, partial)


def _plus(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not left:
        return right
    for name, value in right.items():
        left[name] += value
    return left
