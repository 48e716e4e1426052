"""Check for texts that are nearly the same across splits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcore.audit.checks.duplicates import split_pairs
from fedcore.audit.finding import Finding
from fedcore.audit.minhash import PERMUTATIONS, RUN, most_alike
from fedcore.audit.wording import EXAMPLES, count_of, have

if TYPE_CHECKING:
    import pandas as pd


def check_near_texts(table: pd.DataFrame, *, similarity: float | None) -> tuple[Finding, ...]:
    """No text of a later split shares most of its runs of words with one in an earlier split.

    The share is estimated by MinHash, with a standard deviation of up to 0.044. Texts that are the
    same are left to the check for exact duplicates. Nothing is looked for when the similarity is
    None.
    """
    if similarity is None or "signature" not in table:
        return ()
    found = []
    for one, other in split_pairs(table):
        left, right = table[table["split"] == one], table[table["split"] == other]
        right = right[~right["digest"].isin(left["digest"])]
        at, share = most_alike(signatures_in(left), signatures_in(right), similarity)
        near = np.flatnonzero(at >= 0)
        if not len(near):
            continue
        closest = near[np.argsort(-share[near], kind="stable")][:EXAMPLES]
        examples = tuple(
            f"{one}[{left['index'].iloc[at[pin]]}] ~ {other}[{right['index'].iloc[pin]}] "
            f"({share[pin]:.0%})"
            for pin in closest
        )
        message = (
            f"{count_of(len(near), 'text')} of {other} {have(len(near))} at least "
            f"{similarity:.0%} of runs of {RUN} words in common with a text of {one}."
        )
        found.append(
            Finding("near-duplicates", "warning", (one, other), len(near), message, examples)
        )
    return tuple(found)


def signatures_in(rows: pd.DataFrame) -> np.ndarray:
    """(n, permutations) uint32 of rows of the sample table."""
    return np.frombuffer(b"".join(rows["signature"]), dtype=np.uint32).reshape(-1, PERMUTATIONS)
