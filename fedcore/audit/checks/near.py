"""Check for images that look alike across splits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcore.audit.checks.duplicates import split_pairs
from fedcore.audit.finding import Finding
from fedcore.audit.nearest import nearest_within
from fedcore.audit.wording import EXAMPLES, count_of, have

if TYPE_CHECKING:
    import pandas as pd


def check_near_duplicates(table: pd.DataFrame, *, threshold: int | None) -> tuple[Finding, ...]:
    """No image of a later split has a hash within ``threshold`` bits of one in an earlier split.

    Exact duplicates are left to their own check. Small or simple pictures (digits) often share a
    hash without being related: a reason to look, not a proof. Nothing is looked for when the
    threshold is None, or where the inputs have no hash (two or more than three channels).
    """
    if threshold is None or "perceptual_hash" not in table:
        return ()
    found = []
    for one, other in split_pairs(table):
        left, right = table[table["split"] == one], table[table["split"] == other]
        right = right[~right["digest"].isin(left["digest"])]
        at, distance = nearest_within(
            left["perceptual_hash"].to_numpy(np.uint64),
            right["perceptual_hash"].to_numpy(np.uint64),
            threshold,
        )
        near = np.flatnonzero(at >= 0)
        if not len(near):
            continue
        closest = near[np.argsort(distance[near], kind="stable")][:EXAMPLES]
        examples = tuple(
            f"{one}[{left['index'].iloc[at[pin]]}] ~ {other}[{right['index'].iloc[pin]}] "
            f"({distance[pin]} bits)"
            for pin in closest
        )
        message = (
            f"{count_of(len(near), 'image')} of {other} {have(len(near))} a perceptual hash within "
            f"{threshold} of 64 bits of an image of {one}."
        )
        found.append(
            Finding("near-duplicates", "warning", (one, other), len(near), message, examples)
        )
    return tuple(found)
