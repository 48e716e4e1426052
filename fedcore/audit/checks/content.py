"""Checks of single inputs: their form and their values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcore.audit.finding import Finding
from fedcore.audit.wording import count_of, places, splits_of

if TYPE_CHECKING:
    import pandas as pd


def check_schema(table: pd.DataFrame, *, shape: str, dtype: str, noun: str) -> tuple[Finding, ...]:
    """Every input has the stated type and shape, e.g. ``uint8`` and ``28x28x1``."""
    wrong = table[(table["shape"] != shape) | (table["dtype"] != dtype)]
    if not len(wrong):
        return ()
    seen = wrong.iloc[0]
    message = (
        f"{count_of(len(wrong), noun)} of {splits_of(wrong)} should be {dtype} {shape}; "
        f"the first is {seen['dtype']} {seen['shape']}."
    )
    return (_finding("schema", wrong, message),)


def check_values(
    table: pd.DataFrame, *, low: float | None, high: float | None, noun: str
) -> tuple[Finding, ...]:
    """Every value is a finite number within the range that the settings allow."""
    found = []
    wrong = table[~table["finite"].astype(bool)]
    if len(wrong):
        message = (
            f"{count_of(len(wrong), noun)} of {splits_of(wrong)} have missing or infinite values."
        )
        found.append(_finding("values", wrong, message))
    below = table["minimum"] < (float("-inf") if low is None else low)
    above = table["maximum"] > (float("inf") if high is None else high)
    wrong = table[below | above | (table["out_of_range"] > 0)]
    if len(wrong):
        message = (
            f"{count_of(len(wrong), noun)} of {splits_of(wrong)} have values outside the range "
            "that the settings allow."
        )
        found.append(_finding("values", wrong, message))
    return tuple(found)


def check_blank_images(table: pd.DataFrame) -> tuple[Finding, ...]:
    """No image has one single colour."""
    blank = table[table["minimum"] == table["maximum"]]
    if not len(blank):
        return ()
    message = f"{count_of(len(blank), 'image')} of {splits_of(blank)} have one single value."
    return (_finding("blank-images", blank, message, is_error=False),)


def _finding(check: str, rows: pd.DataFrame, message: str, *, is_error: bool = True) -> Finding:
    return Finding(
        check=check,
        severity="error" if is_error else "warning",
        splits=tuple(rows["split"].unique()),
        count=len(rows),
        message=message,
        examples=places(rows),
    )
