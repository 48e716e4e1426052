"""Label skew: each label is spread over the clients in Dirichlet proportions."""

from __future__ import annotations

import numpy as np

from fedcore.data.dataset import Split
from fedcore.partition.shares import (
    Partitioner,
    check_clients,
    check_positive,
    deal,
    largest_remainder,
    lift_to_minimum,
    named,
    strata_of,
)
from fedcore.task import Task

REDRAWS = 100  # as often as a draw below the minimum is repeated before samples are moved


def dirichlet(*, clients: int, alpha: float, min_size: int = 10) -> Partitioner:
    """Of each label, client j gets the share p_j, p ~ Dirichlet(alpha, ..., alpha).

    Yurochkin et al., Bayesian Nonparametric Federated Learning of Neural Networks, ICML 2019,
    section 4; Li et al., Federated Learning on Non-IID Data Silos, ICDE 2022
    (https://arxiv.org/abs/2102.02079), who repeat the draw until each client has 10 samples. Here
    the draw is repeated at most 100 times; then samples move from the largest clients.

    Args:
      alpha: concentration; large is IID, 0.1 leaves most clients with one or two labels.
      min_size: samples that each client gets at least.

    Raises:
      ValueError: alpha is not positive.
    """
    check_positive(alpha=alpha)

    def partition(task: Task, split: Split, rng: np.random.Generator) -> dict[str, np.ndarray]:
        check_clients(clients, len(split), max(1, min_size))
        strata = strata_of(task, split)
        totals = np.bincount(strata)
        for _ in range(REDRAWS):
            shares = rng.dirichlet(np.full(clients, alpha), size=len(totals))
            counts = np.stack(
                [largest_remainder(int(n), p) for n, p in zip(totals, shares, strict=True)], axis=1
            )
            if counts.sum(axis=1).min() >= min_size:
                break
        return named(deal(strata, lift_to_minimum(counts, max(1, min_size)), rng))

    return partition
