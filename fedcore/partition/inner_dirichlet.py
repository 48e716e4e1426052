"""Label skew at given client sizes: each client has its own Dirichlet mix of labels."""

from __future__ import annotations

from collections.abc import Sequence

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


def inner_dirichlet(
    *,
    clients: int,
    alpha: float,
    sizes: Sequence[float] | None = None,
    size_alpha: float | None = None,
) -> Partitioner:
    """Client j draws its labels from p_j ~ Dirichlet(alpha * prior), prior the labels' frequencies.

    Acar et al., Federated Learning Based on Dynamic Regularization, ICLR 2021, experiments
    (https://arxiv.org/abs/2111.04263): client sizes are fixed first, then samples are taken one by
    one, each from a client's own mix; a label that has run out leaves every mix.

    Args:
      alpha: concentration for a uniform prior over the labels; large gives every client the
        frequencies of the whole.
      sizes: relative size of each client; None: equal, or drawn when ``size_alpha`` is given.
      size_alpha: draw relative sizes from Dirichlet(size_alpha, ..., size_alpha).

    Raises:
      ValueError: alpha or a size not positive, sizes given twice, or not one size per client.
    """
    check_positive(alpha=alpha)
    if sizes is not None and size_alpha is not None:
        raise ValueError(
            f"sizes={tuple(sizes)} and size_alpha={size_alpha}: both say how large the clients "
            "are. Give one of them."
        )
    if size_alpha is not None:
        check_positive(size_alpha=size_alpha)
    if sizes is not None:
        if len(sizes) != clients:
            raise ValueError(f"sizes={tuple(sizes)}: needs one per client; there are {clients}.")
        check_positive(**{f"sizes[{at}]": size for at, size in enumerate(sizes)})

    def partition(task: Task, split: Split, rng: np.random.Generator) -> dict[str, np.ndarray]:
        check_clients(clients, len(split))
        strata = strata_of(task, split)
        totals = np.bincount(strata)
        if size_alpha is not None:
            weights = rng.dirichlet(np.full(clients, size_alpha))
        else:
            weights = np.ones(clients) if sizes is None else np.asarray(sizes, dtype=np.float64)
        wanted = lift_to_minimum(largest_remainder(len(split), weights)[:, None], 1)[:, 0]
        mixes = rng.dirichlet(alpha * len(totals) * totals / totals.sum(), size=clients)
        return named(deal(strata, _fill(wanted, mixes, totals, rng), rng))

    return partition


def _fill(
    wanted: np.ndarray, mixes: np.ndarray, supply: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(clients, strata) counts: slots in random order draw a label from their client's mix.

    All open slots draw at once; what comes after the first draw of an exhausted label is drawn
    again without it, so there are at most as many passes as labels.
    """
    clients, labels = mixes.shape
    slots = rng.permutation(np.repeat(np.arange(clients), wanted))
    counts = np.zeros((clients, labels), dtype=np.int64)
    left = supply.astype(np.int64)
    while len(slots):
        open_mixes = np.where(left > 0, mixes, 0.0)
        # A client whose mix has run out takes what is left, in proportion.
        empty = open_mixes.sum(axis=1) <= 1e-12
        open_mixes[empty] = left / left.sum()
        ladder = np.cumsum(open_mixes, axis=1)
        ladder /= ladder[:, -1:]
        ladder = np.round(ladder, 12)
        drawn = (rng.random(len(slots))[:, None] >= ladder[slots]).sum(axis=1)
        end = len(slots)
        for label in np.flatnonzero(left > 0):
            at = np.flatnonzero(drawn == label)
            if len(at) > left[label]:
                end = min(end, int(at[left[label]]))
        np.add.at(counts, (slots[:end], drawn[:end]), 1)
        left -= np.bincount(drawn[:end], minlength=labels)
        slots = slots[end:]
    return counts
