"""The natural clients: who owns a sample keeps it."""

from __future__ import annotations

import numpy as np

from fedcore.data.dataset import Split
from fedcore.data.owners import CLIENT_ID
from fedcore.partition.shares import Partitioner
from fedcore.task import Task


def by_owner() -> Partitioner:
    """One client per owner, under the owner's name. Draws nothing."""

    def partition(task: Task, split: Split, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return owners_of(split)

    return partition


def owners_of(split: Split) -> dict[str, np.ndarray]:
    """Owner -> (n,) int64 sorted indices.

    Raises:
      ValueError: the samples have no owners, or a name that cannot name a client.
    """
    if split.owners is None:
        raise ValueError(
            "partition kind='by_owner' needs the owner of each sample, and this data set has none. "
            "Name the owner column in the data settings or choose another partitioner, e.g. 'iid'."
        )
    owners = split.owners.astype(str)
    for name in np.unique(owners):
        if not CLIENT_ID.fullmatch(name):
            raise ValueError(
                f"owner={str(name)!r} cannot name a client: 1 to 64 letters, digits, '.', '_' or "
                "'-', the first a letter or digit. Rename it in the owner column."
            )
    return {str(name): np.flatnonzero(owners == name) for name in np.unique(owners)}
