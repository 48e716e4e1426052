"""Checks for the same input twice: across splits or owners, within one, with other labels."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from fedcore.audit.finding import Finding
from fedcore.audit.wording import EXAMPLES, count_of, place, places
from fedcore.data.dataset import SPLITS

if TYPE_CHECKING:
    import pandas as pd


def check_exact_duplicates(table: pd.DataFrame, *, noun: str) -> tuple[Finding, ...]:
    """No input occurs, byte for byte, in two splits."""
    found = []
    for one, other in split_pairs(table):
        left, right = table[table["split"] == one], table[table["split"] == other]
        left = left[left["digest"].isin(right["digest"])]
        if not len(left):
            continue
        right = right[right["digest"].isin(left["digest"])]
        count = left["digest"].nunique()
        examples = tuple(
            f"{place(row)} = {place(right[right['digest'] == row['digest']].iloc[0])}"
            for _, row in left.drop_duplicates("digest").head(EXAMPLES).iterrows()
        )
        verb = "is" if count == 1 else "are"
        message = (
            f"{count_of(count, noun)} {verb} in both {one} and {other} "
            f"({len(left)} in {one}, {len(right)} in {other})."
        )
        found.append(Finding("exact-duplicates", "error", (one, other), count, message, examples))
    return tuple(found)


def check_repeated_samples(table: pd.DataFrame, *, noun: str) -> tuple[Finding, ...]:
    """No input occurs twice in one split, where it would count twice."""
    found = []
    for split in table["split"].unique():
        rows = table[table["split"] == split]
        again = rows[rows["digest"].duplicated()]
        if len(again):
            verb = "repeats" if len(again) == 1 else "repeat"
            message = f"{count_of(len(again), noun)} of {split} {verb} an earlier one."
            found.append(
                Finding(
                    "repeated-samples", "warning", (str(split),), len(again), message, places(again)
                )
            )
    return tuple(found)


def check_conflicting_labels(table: pd.DataFrame, *, noun: str) -> tuple[Finding, ...]:
    """The same input has the same target everywhere."""
    same = table[table["digest"].duplicated(keep=False)]
    labels = same.groupby("digest", sort=False)["label"].nunique(dropna=False)
    conflicting = same[same["digest"].isin(labels[labels > 1].index)]
    if not len(conflicting):
        return ()
    count = conflicting["digest"].nunique()
    verb = "occurs" if count == 1 else "occur"
    message = f"{count_of(count, noun)} {verb} more than once with different targets."
    examples = []
    for _, rows in list(conflicting.groupby("digest", sort=False))[:EXAMPLES]:
        examples.append(" / ".join(f"{place(row)}: {row['label']}" for _, row in rows.iterrows()))
    splits = tuple(str(split) for split in conflicting["split"].unique())
    return (Finding("conflicting-labels", "warning", splits, count, message, tuple(examples)),)


def check_shared_by_owners(table: pd.DataFrame, *, noun: str) -> tuple[Finding, ...]:
    """No training input belongs to two owners."""
    rows = table[(table["split"] == "train") & table["owner"].notna()]
    return shared_content(rows, "owner", "shared-by-owners", noun)


def shared_content(rows: pd.DataFrame, column: str, check: str, noun: str) -> tuple[Finding, ...]:
    """The finding that inputs occur under two values of a column (owner or client), if any."""
    same = rows[rows["digest"].duplicated(keep=False)]
    holders = same.groupby("digest", sort=False)[column].nunique()
    shared = same[same["digest"].isin(holders[holders > 1].index)]
    if not len(shared):
        return ()
    count = shared["digest"].nunique()
    verb = "is" if count == 1 else "are"
    message = f"{count_of(count, noun)} of train {verb} held by more than one {column}."
    examples = []
    for _, group in list(shared.groupby("digest", sort=False))[:EXAMPLES]:
        examples.append(" = ".join(f"{place(row)} at {row[column]}" for _, row in group.iterrows()))
    return (Finding(check, "warning", ("train",), count, message, tuple(examples)),)


def split_pairs(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Pairs of the splits that occur, earlier ones first."""
    present = set(np.unique(table["split"].to_numpy().astype(str)))
    return list(combinations([split for split in SPLITS if split in present], 2))
