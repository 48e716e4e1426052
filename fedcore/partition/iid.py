"""Every client a random sample of the whole."""

from __future__ import annotations

import numpy as np

from fedcore.data.dataset import Split
from fedcore.partition.shares import Partitioner, check_clients, named
from fedcore.task import Task


def iid(*, clients: int) -> Partitioner:
    """Samples in random order, cut into equal parts (sizes differ by at most one).

    McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data,
    AISTATS 2017, section 3 (IID).
    """

    def partition(task: Task, split: Split, rng: np.random.Generator) -> dict[str, np.ndarray]:
        check_clients(clients, len(split))
        order = rng.permutation(len(split))
        return named([np.sort(part) for part in np.array_split(order, clients)])

    return partition
