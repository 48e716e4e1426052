"""Words of findings: counts, splits and places."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = 5
# Kind of a data set's inputs -> what one of them is called.
NOUNS = {"image": "image", "table": "row", "text": "text"}


def count_of(count: int, noun: str) -> str:
    """A number and its noun.

    >>> count_of(1, "image"), count_of(1200, "row")
    ('1 image', '1 200 rows')
    """
    plural = noun if count == 1 else f"{noun}s"
    return f"{count:,} {plural}".replace(",", " ")


def have(count: int) -> str:
    """The verb that goes with a count."""
    return "has" if count == 1 else "have"


def listed(words: Iterable[str]) -> str:
    """Words with commas and an 'and'.

    >>> listed(["train"]), listed(["train", "val", "test"])
    ('train', 'train, val and test')
    """
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def splits_of(rows: pd.DataFrame) -> str:
    """The splits that occur in rows of the sample table, in words."""
    return listed(str(split) for split in rows["split"].unique())


def place(row: pd.Series) -> str:
    """Where a sample is, e.g. ``train[17]``."""
    return f"{row['split']}[{row['index']}]"


def places(rows: pd.DataFrame) -> tuple[str, ...]:
    """Where the first few samples are."""
    return tuple(place(row) for _, row in rows.head(EXAMPLES).iterrows())
