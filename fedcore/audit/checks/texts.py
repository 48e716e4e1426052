"""Checks of single texts: that they can be read, say something, and are read to their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcore.audit.finding import Finding, Severity
from fedcore.audit.wording import count_of, have, places, splits_of

if TYPE_CHECKING:
    import pandas as pd

# A text that is cut ends less than one character before the end of its row: four bytes at most.
LARGEST_CHARACTER = 4


def check_readable(table: pd.DataFrame) -> tuple[Finding, ...]:
    """Every text is UTF-8, padded with zeros."""
    wrong = table[~table["readable"].astype(bool)]
    if not len(wrong):
        return ()
    verb = "is" if len(wrong) == 1 else "are"
    message = f"{count_of(len(wrong), 'text')} of {splits_of(wrong)} {verb} not UTF-8."
    return (_finding("values", "error", wrong, message),)


def check_empty_texts(table: pd.DataFrame) -> tuple[Finding, ...]:
    """Every text has a word."""
    empty = table[table["readable"].astype(bool) & (table["words"] == 0)]
    if not len(empty):
        return ()
    message = f"{count_of(len(empty), 'text')} of {splits_of(empty)} {have(len(empty))} no word."
    return (_finding("empty-texts", "warning", empty, message),)


def check_text_lengths(table: pd.DataFrame, *, most_words: int) -> tuple[Finding, ...]:
    """No text fills its row, where it may have been cut, and none has more words than are read."""
    found = []
    width = table["shape"].str.split("x").str[0].astype(int)
    full = table[table["bytes"] > width - LARGEST_CHARACTER]
    if len(full):
        verb = "fills" if len(full) == 1 else "fill"
        message = (
            f"{count_of(len(full), 'text')} of {splits_of(full)} {verb} the bytes that are kept of "
            "each and may have been cut."
        )
        found.append(_finding("text-lengths", "warning", full, message))
    long = table[table["words"] > most_words]
    if len(long):
        message = (
            f"{count_of(len(long), 'text')} of {splits_of(long)} {have(len(long))} more than "
            f"{most_words} words, the longest {int(long['words'].max())}: the model reads their "
            "beginnings."
        )
        found.append(_finding("text-lengths", "warning", long, message))
    return tuple(found)


def _finding(check: str, severity: Severity, rows: pd.DataFrame, message: str) -> Finding:
    splits = tuple(str(split) for split in rows["split"].unique())
    return Finding(check, severity, splits, len(rows), message, places(rows))
