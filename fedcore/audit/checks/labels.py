"""Checks of the targets: in range, and enough of each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fedcore.audit.finding import Finding, Severity
from fedcore.audit.wording import count_of, have, listed, places, splits_of

if TYPE_CHECKING:
    import pandas as pd


def check_labels(table: pd.DataFrame, *, kind: str, labels: Sequence[str]) -> tuple[Finding, ...]:
    """Every target is one that the task allows."""
    column = table["label"]
    if kind == "multilabel":
        allowed = column.astype(str).str.fullmatch(f"[01]{{{len(labels)}}}")
        rule = f"{len(labels)} values of 0 or 1"
    elif kind == "regression":
        allowed = column.astype(float).abs() < float("inf")
        rule = "a finite number"
    else:
        allowed = column.isin(range(len(labels)))
        rule = f"a whole number from 0 to {len(labels) - 1}"
    wrong = table[~allowed.astype(bool)]
    if not len(wrong):
        return ()
    verb = have(len(wrong))
    message = (
        f"{count_of(len(wrong), 'sample')} of {splits_of(wrong)} {verb} a target that is not "
        f"{rule}, the first being {wrong.iloc[0]['label']}."
    )
    splits = tuple(wrong["split"].unique())
    return (Finding("labels", "error", splits, len(wrong), message, places(wrong)),)


def check_class_support(
    table: pd.DataFrame, *, kind: str, labels: Sequence[str], minimum: int
) -> tuple[Finding, ...]:
    """Training has at least ``minimum`` samples of each label, the other splits one."""
    if kind == "regression":
        return ()
    counts = {
        str(split): label_counts(table[table["split"] == split], kind=kind, labels=labels)
        for split in table["split"].unique()
    }
    return find_rare_labels(counts, labels=labels, minimum=minimum)


def find_rare_labels(
    counts: Mapping[str, np.ndarray], *, labels: Sequence[str], minimum: int
) -> tuple[Finding, ...]:
    """As :func:`check_class_support`, from the (labels,) samples of each label in each split."""
    found = []
    for split, counted in counts.items():
        least = minimum if split == "train" else 1
        short = [at for at in range(len(labels)) if counted[at] < least]
        if not short:
            continue
        names = listed(f"{labels[at]!r} ({counted[at]})" for at in short)
        message = (
            f"{count_of(len(short), 'label')} {have(len(short))} fewer than {least} samples in "
            f"{split}: {names}."
        )
        examples = tuple(f"label {at}" for at in short[:5])
        severity: Severity = "error" if split == "train" else "warning"
        found.append(Finding("class-support", severity, (split,), len(short), message, examples))
    return tuple(found)


def label_counts(rows: pd.DataFrame, *, kind: str, labels: Sequence[str]) -> np.ndarray:
    """(labels,) int64 samples of each label; multilabel: samples that have it."""
    if kind == "multilabel":
        text = rows["label"].astype(str)
        return np.array([int((text.str[at] == "1").sum()) for at in range(len(labels))])
    values = rows["label"].to_numpy()
    valid = values[(values >= 0) & (values < len(labels))].astype(np.int64)
    return np.bincount(valid, minlength=len(labels))
