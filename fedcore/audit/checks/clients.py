"""Checks of a partition, on the placement table: one row per place of a sample at a client."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fedcore.audit.checks.duplicates import shared_content
from fedcore.audit.finding import Finding, Severity
from fedcore.audit.wording import (
    EXAMPLES,
    at_clients,
    count_of,
    have,
    listed,
    place,
    places,
    splits_of,
)

if TYPE_CHECKING:
    import pandas as pd


def check_one_client(table: pd.DataFrame) -> tuple[Finding, ...]:
    """No sample is held twice."""
    placed = table[table["client"].notna()]
    twice = placed[placed.duplicated(["split", "index"], keep=False)]
    if not len(twice):
        return ()
    groups = list(twice.groupby(["split", "index"], sort=False))
    examples = tuple(
        f"{place(rows.iloc[0])} at {' and '.join(rows['client'].astype(str))}"
        for _, rows in groups[:EXAMPLES]
    )
    verb = "is" if len(groups) == 1 else "are"
    message = f"{count_of(len(groups), 'sample')} of {splits_of(twice)} {verb} held more than once."
    splits = tuple(str(split) for split in twice["split"].unique())
    return (Finding("one-client", "error", splits, len(groups), message, examples),)


def check_every_sample(table: pd.DataFrame) -> tuple[Finding, ...]:
    """Every training sample that was not dropped is held, and nothing else is.

    A validation or test sample that no client holds (its owner has no training data) is a warning.
    """
    found = []
    dropped = table["is_dropped"].astype(bool)
    homeless = table[table["client"].isna() & ~dropped]
    trained = set(table.loc[(table["split"] == "train") & table["client"].notna(), "owner"])
    for split in homeless["split"].unique():
        rows = homeless[homeless["split"] == split]
        verb = "belongs" if len(rows) == 1 else "belong"
        message = f"{count_of(len(rows), 'sample')} of {split} {verb} to no client"
        absent = [owner for owner in rows["owner"].dropna().unique() if owner not in trained]
        message += f": {_why_no_client(absent)}." if absent and split != "train" else "."
        severity: Severity = "error" if split == "train" else "warning"
        found.append(
            Finding("every-sample", severity, (str(split),), len(rows), message, places(rows))
        )
    for rows, what in (
        (table[table["client"].notna() & dropped], "that the audit has dropped"),
        (table[table["digest"].isna()], "that the data set does not have"),
    ):
        if len(rows):
            message = f"clients hold {count_of(len(rows), 'sample')} of {splits_of(rows)} {what}."
            splits = tuple(str(split) for split in rows["split"].unique())
            found.append(Finding("every-sample", "error", splits, len(rows), message, places(rows)))
    return tuple(found)


def _why_no_client(owners: list[str]) -> str:
    more = len(owners) - EXAMPLES
    names = [repr(owner) for owner in owners[:EXAMPLES]] + ([f"{more} more"] if more > 0 else [])
    what = "owner" if len(owners) == 1 else "owners"
    return f"{what} {listed(names)} {have(len(owners))} no training samples"


def check_shared_by_clients(table: pd.DataFrame, *, noun: str) -> tuple[Finding, ...]:
    """No training input occurs, byte for byte, at two clients."""
    rows = table[(table["split"] == "train") & table["client"].notna() & table["digest"].notna()]
    found = shared_content(rows, "client", "shared-by-clients", noun)
    if not found:
        return ()
    held = rows.groupby("digest", sort=False)["client"].transform("nunique")
    where = at_clients(rows.loc[held > 1, "client"].unique())
    return tuple(replace(one, message=f"{one.message.rstrip('.')}, {where}.") for one in found)
