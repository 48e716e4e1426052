"""Groups of persons: whose privacy has a budget of its own, by sample.

A group is not an input of the model unless its column is one too; it lies beside the samples, so
that their digest covers it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedcore.data.owners import plain_ids

ARRAY = "groups"  # beside ``inputs`` and ``targets`` in a blob


def group_names(values: np.ndarray) -> np.ndarray:
    """(n,) str names of groups, in the form of owners' ids: they stand in ledgers and tables.

    >>> group_names(np.array(["over 60", "under"])).tolist()
    ['over-60', 'under']

    Raises:
      ValueError: a name does not fit, or two become the same.
    """
    return plain_ids(values, noun="group", of="a group of persons")


def with_groups(
    arrays: Mapping[str, np.ndarray], groups: np.ndarray | None
) -> dict[str, np.ndarray]:
    """The arrays of a blob and, where there are groups, their names as (n, w) uint8 of UTF-8."""
    if groups is None:
        return dict(arrays)
    texts = np.char.encode(groups.astype(str), "utf-8")
    return {**arrays, ARRAY: texts.view(np.uint8).reshape(len(texts), texts.itemsize)}


def groups_in(arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """(n,) str groups of a blob's samples; None where they have none.

    >>> blob = with_groups({}, np.array(["a", "bcd"]))
    >>> groups_in(blob).tolist()
    ['a', 'bcd']
    """
    if ARRAY not in arrays:
        return None
    texts = np.ascontiguousarray(arrays[ARRAY])
    return np.char.decode(texts.view(f"S{texts.shape[1]}").ravel(), "utf-8")


def group_sizes(groups: np.ndarray | None) -> dict[str, int]:
    """Group -> number of its samples, sorted by name; empty without groups."""
    names, counts = np.unique([] if groups is None else groups, return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}
