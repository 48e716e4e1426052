"""Each client has only a few labels."""

from __future__ import annotations

import numpy as np

from fedcore.data.dataset import Split
from fedcore.partition.shares import Partitioner, check_clients, deal, named, strata_of
from fedcore.task import Task


def pathological(*, clients: int, labels_per_client: int) -> Partitioner:
    """Each client has exactly k labels; each label's samples are shared equally by its holders.

    McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data,
    AISTATS 2017, section 3 (pathological non-IID), who cut the samples sorted by label into shards,
    which gives *about* k labels. Here every label has equally many holders (to within one).

    Args:
      labels_per_client: k, at most the number of labels.
    """

    def partition(task: Task, split: Split, rng: np.random.Generator) -> dict[str, np.ndarray]:
        check_clients(clients, len(split))
        strata = strata_of(task, split)
        totals = np.bincount(strata)
        holds = _holders(clients, labels_per_client, totals, rng)
        counts = np.zeros(holds.shape, dtype=np.int64)
        for label, total in enumerate(totals):
            holders = np.flatnonzero(holds[:, label])
            if len(holders) > total:
                raise ValueError(
                    f"clients={clients} with labels_per_client={labels_per_client} give a label of "
                    f"{total} samples to {len(holders)} clients; each of them needs at least 1. "
                    "Take fewer clients or fewer labels."
                )
            share, extra = divmod(int(total), len(holders))
            counts[holders, label] = share
            counts[rng.permutation(holders)[:extra], label] += 1
        return named(deal(strata, counts, rng))

    return partition


def _holders(
    clients: int, labels_per_client: int, totals: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(clients, labels) bool: rows with k labels, columns as equal as can be."""
    labels = len(totals)
    if not 1 <= labels_per_client <= labels:
        raise ValueError(
            f"labels_per_client={labels_per_client}: must be between 1 and the {labels} labels "
            "that the training split has."
        )
    if clients * labels_per_client < labels:
        raise ValueError(
            f"clients={clients} with labels_per_client={labels_per_client} hold at most "
            f"{clients * labels_per_client} of {labels} labels; the others would belong to nobody. "
            "Take more clients or more labels for each."
        )
    seats = np.full(labels, clients * labels_per_client // labels)
    # Labels with more samples take the odd seats, ties at random.
    by_size = np.lexsort((rng.permutation(labels), -totals))
    seats[by_size[: clients * labels_per_client % labels]] += 1
    holds = np.zeros((clients, labels), dtype=bool)
    for client in range(clients):
        # The labels with most free seats first (Havel and Hakimi): this never runs into a corner.
        chosen = np.lexsort((rng.permutation(labels), -seats))[:labels_per_client]
        holds[client, chosen] = True
        seats[chosen] -= 1
    return holds
