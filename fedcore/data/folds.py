"""Folds of a cross-validation that keep samples of one kind together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def assign_folds(keys: Sequence[str], strata: np.ndarray, count: int, name: str) -> np.ndarray:
    """(n,) int64 fold of each sample, from 0; all samples of one key are in one fold.

    A key's stratum is what its samples are of, together. Within each stratum keys are ordered by a
    hash and dealt out in turn, the next stratum beginning where the last one ended: folds have the
    same share of each stratum to within one key. A property of the data and of ``name``.

    Args:
      keys: of each sample, e.g. its normalised text.
      strata: (n,) int64.
      count: of folds.
      name: what the folds are for; another name gives others.

    >>> assign_folds(["b", "a", "b", "c"], np.array([0, 0, 1, 0]), 2, "example").tolist()
    [0, 0, 0, 1]

    Raises:
      ValueError: fewer than two folds, or fewer keys than folds.
    """
    of: dict[str, list[int]] = {}
    for key, stratum in zip(keys, strata.tolist(), strict=True):
        of.setdefault(key, []).append(stratum)
    if not 2 <= count <= len(of):
        raise ValueError(f"count={count}: from 2 folds up to one for each of the {len(of)} keys.")
    seeded = {key: hashlib.sha256(f"{name} {key}".encode()).hexdigest() for key in of}
    order = sorted(of, key=lambda key: (sorted(of[key]), seeded[key]))
    fold = {key: place % count for place, key in enumerate(order)}
    return np.array([fold[key] for key in keys], dtype=np.int64)
