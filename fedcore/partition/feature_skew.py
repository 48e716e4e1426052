"""Clients that see the same labels through different inputs, as scanners and wards do."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fedcore.data.dataset import Split
from fedcore.partition.shares import Partitioner, check_clients, cut, named, strata_of
from fedcore.task import Task

Statistic = Literal["level", "contrast"]


def feature_skew(
    *,
    clients: int,
    statistic: Statistic = "level",
    strength: float = 1.0,
    within_labels: bool = True,
) -> Partitioner:
    """Samples sorted by one number computed from each input and cut into equal parts, unaltered.

    Feature distribution skew, p_i(x) differs and p(y | x) does not: Kairouz et al., Advances and
    Open Problems in Federated Learning, 2021, section 3.1. A sample sorts by
    strength * (its rank in [0, 1]) + (1 - strength) * (a uniform draw).

    Args:
      statistic: ``level`` (mean of an image; mean rank over the columns of a row; length of a text
        in bytes) or ``contrast`` (spread of an image's pixels or of a row's ranks; mean length of a
        text's words). All are computed in whole numbers, so they are the same on every machine,
        which a principal component is not.
      strength: 1 sorts strictly, 0 is IID.
      within_labels: sort inside each label, so that all clients keep the same label frequencies.
    """

    def partition(task: Task, split: Split, rng: np.random.Generator) -> dict[str, np.ndarray]:
        check_clients(clients, len(split))
        strata = strata_of(task, split) if within_labels else np.zeros(len(split), dtype=np.int64)
        values = input_statistic(split.inputs, statistic)
        mixed = np.empty(len(split))
        for stratum in range(int(strata.max()) + 1):
            members = np.flatnonzero(strata == stratum)
            order = np.argsort(values[members], kind="stable")
            rank = np.empty(len(members))
            rank[order] = (np.arange(len(members)) + 0.5) / len(members)
            noise = rng.random(len(members))
            mixed[members] = np.argsort(np.argsort(strength * rank + (1.0 - strength) * noise))
            mixed[members] = (mixed[members] + 0.5) / len(members)
        sizes = np.array([len(part) for part in np.array_split(np.arange(len(split)), clients)])
        return named(cut(np.argsort(mixed, kind="stable"), sizes))

    return partition


def input_statistic(inputs: np.ndarray, statistic: Statistic) -> np.ndarray:
    """(n,) int64 number to sort inputs by, exact on every machine.

    Args:
      inputs: images (n, h, w, c) uint8, tables (n, columns) float32 or texts (n, most_bytes) uint8.
    """
    if inputs.dtype == np.uint8 and inputs.ndim == 2:
        return _text_statistic(inputs, statistic)
    flat = inputs.reshape(len(inputs), -1)
    if inputs.dtype != np.uint8:
        # Ranks of each column (ties share one) make columns of different units comparable.
        columns = [np.unique(column, return_inverse=True)[1].reshape(-1) for column in flat.T]
        scaled = [column * 1000 // max(int(column.max()), 1) for column in columns]
        flat = np.stack(scaled, axis=1)
    total = flat.sum(axis=1, dtype=np.int64)
    if statistic == "level":
        return total
    squares = np.einsum("ij,ij->i", flat, flat, dtype=np.int64, casting="unsafe")
    return squares * flat.shape[1] - total * total


def _text_statistic(inputs: np.ndarray, statistic: Statistic) -> np.ndarray:
    """(n,) int64 bytes of each text, or thousandths of bytes in a word of it."""
    if statistic == "level":
        return np.asarray((inputs != 0).sum(axis=1), dtype=np.int64)
    is_letter = inputs > ord(" ")
    begins = is_letter & ~np.pad(is_letter, ((0, 0), (1, 0)))[:, :-1]
    return np.asarray(is_letter.sum(axis=1) * 1000 // np.maximum(begins.sum(axis=1), 1), np.int64)
