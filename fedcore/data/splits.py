"""Setting samples aside for validation and test where a source has no such split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from fedcore.data.dataset import SPLITS, Split
from fedcore.rng import stream
from fedcore.task import Task

Limit = Annotated[
    int | None,
    Field(ge=1, description="Keep only the first this many samples of each split (fast trials)."),
]
ValFraction = Annotated[
    float,
    Field(
        ge=0.0,
        le=0.5,
        description="Part of the training samples set aside for validation where the source has "
        "no validation split; stratified, the same for every seed; 0 for none.",
    ),
]
TestFraction = Annotated[
    float,
    Field(
        ge=0.0,
        le=0.5,
        description="Part of all samples set aside for test where the source has no test split; "
        "stratified, the same for every seed; 0 for none.",
    ),
]


def held_out_size(num_samples: int, fraction: float) -> int:
    """How many of the samples a fraction sets aside, rounded half up.

    >>> held_out_size(1797, 0.2), held_out_size(5, 0.1)
    (359, 1)
    """
    return int(num_samples * fraction + 0.5)


def choose_held_out(strata: np.ndarray, fraction: float, *names: str) -> np.ndarray:
    """(m,) int64 sorted indices to set aside, each stratum giving its share (largest remainders).

    Drawn from the stream of seed 0 called ``names``: a property of the data, not of a run. A
    stratum never gives its last sample, so every owner and class keeps one for training.

    Args:
      strata: (n,) int64 key of each sample.
      fraction: below 1.
      names: what the draw is for.
    """
    keys, inverse, counts = np.unique(strata, return_inverse=True, return_counts=True)
    wanted = held_out_size(len(strata), fraction)
    quota = np.minimum((counts * fraction).astype(np.int64), counts - 1)
    remainder = np.where(quota < counts - 1, counts * fraction - quota, -np.inf)
    order = np.argsort(-remainder, kind="stable")
    extra = order[np.isfinite(remainder[order])][: max(wanted - int(quota.sum()), 0)]
    quota[extra] += 1
    rng = stream(0, "data", *names)
    chosen = [
        rng.permutation(np.flatnonzero(inverse == index))[: quota[index]]
        for index in range(len(keys))
    ]
    return np.sort(np.concatenate([*chosen, np.empty(0, np.int64)])).astype(np.int64)


def hold_out(
    splits: Mapping[str, Split],
    task: Task,
    *,
    name: str,
    val_fraction: float = 0.0,
    test_fraction: float = 0.0,
    together: np.ndarray | None = None,
) -> dict[str, Split]:
    """The splits with ``test`` and then ``val`` taken out of ``train``, where they are missing.

    Stratified by owner and by the task's key. Samples keep the source's order.

    Args:
      together: (n,) int64 of the training samples: those of one number stay together and count
        once, with the stratum of their first. None: each has a number of its own.

    Raises:
      ValueError: a fraction above 0 leaves a split without a sample.
    """
    parts = {split: part for split, part in splits.items() if len(part)}
    if "train" not in parts:
        raise ValueError(f"{name} has no training sample: its splits are {sorted(splits)}.")
    of = np.arange(len(parts["train"])) if together is None else together
    for split, fraction in (("test", test_fraction), ("val", val_fraction)):
        if split in parts or fraction == 0.0:
            continue
        train = parts["train"]
        first = np.sort(np.unique(of, return_index=True)[1])
        chosen = choose_held_out(_strata(train, task)[first], fraction, name, split)
        held = np.flatnonzero(np.isin(of, of[first[chosen]]))
        if not len(held):
            raise ValueError(
                f"{split}_fraction={fraction} of the {len(train)} training samples of {name} sets "
                f"none aside (each owner and class keeps one). Set {split}_fraction to 0 or larger."
            )
        left = np.setdiff1d(np.arange(len(train)), held)
        parts[split], parts["train"], of = train.take(held), train.take(left), of[left]
    return {split: parts[split] for split in SPLITS if split in parts}


def limited(splits: Mapping[str, Split], limit: int | None) -> dict[str, Split]:
    """The first ``limit`` samples of each split; all of them for None."""
    if limit is None:
        return dict(splits)
    return {split: part.take(np.arange(min(limit, len(part)))) for split, part in splits.items()}


def declared_sizes(
    official: Mapping[str, int],
    *,
    val_fraction: float = 0.0,
    test_fraction: float = 0.0,
    limit: int | None = None,
) -> dict[str, int]:
    """Split sizes to expect, from the source's published ones and the settings alone.

    >>> declared_sizes({"train": 60000, "test": 10000}, val_fraction=0.1, limit=8000)
    {'train': 8000, 'val': 6000, 'test': 8000}
    """
    sizes = dict(official)
    for split, fraction in (("test", test_fraction), ("val", val_fraction)):
        if split not in sizes and fraction > 0.0:
            sizes[split] = held_out_size(sizes["train"], fraction)
            sizes["train"] -= sizes[split]
    return {
        split: sizes[split] if limit is None else min(limit, sizes[split])
        for split in SPLITS
        if split in sizes
    }


def _strata(part: Split, task: Task) -> np.ndarray:
    """(n,) int64 key of owner and target."""
    keys = task.strata(part.targets)
    if part.owners is None:
        return keys
    owners = np.unique(part.owners, return_inverse=True)[1]
    return owners * (int(keys.max()) + 1) + keys
