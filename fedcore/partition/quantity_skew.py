"""Clients of very different sizes, labels alike."""

from __future__ import annotations

import numpy as np

from fedcore.data.dataset import Split
from fedcore.partition.shares import (
    Partitioner,
    check_clients,
    check_positive,
    cut,
    largest_remainder,
    lift_to_minimum,
    named,
)
from fedcore.task import Task


def quantity_skew(*, clients: int, alpha: float, min_size: int = 10) -> Partitioner:
    """Client sizes are n * q with q ~ Dirichlet(alpha, ..., alpha); samples at random.

    Li et al., Federated Learning on Non-IID Data Silos, ICDE 2022 (quantity skew)
    (https://arxiv.org/abs/2102.02079).

    Args:
      alpha: concentration; large gives equal sizes.
      min_size: samples that each client gets at least, taken from the largest.

    Raises:
      ValueError: alpha is not positive.
    """
    check_positive(alpha=alpha)

    def partition(task: Task, split: Split, rng: np.random.Generator) -> dict[str, np.ndarray]:
        check_clients(clients, len(split), max(1, min_size))
        sizes = largest_remainder(len(split), rng.dirichlet(np.full(clients, alpha)))
        sizes = lift_to_minimum(sizes[:, None], max(1, min_size))[:, 0]
        return named(cut(rng.permutation(len(split)), sizes))

    return partition
