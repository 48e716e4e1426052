"""Words of findings: counts, splits and places."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES, NAMES = 5, 20
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


def at_clients(names: Iterable[str]) -> str:
    """Where something is, by the names of clients in their order; of many the first few.

    >>> at_clients({"b", "a"}), at_clients(map("{:02}".format, range(99)))[-18:]
    ('at the clients a and b', '18, 19 and 79 more')
    """
    every = sorted(names)
    more = len(every) - NAMES
    return f"at the clients {listed(every[:NAMES] + ([f'{more} more'] if more > 0 else []))}"


def splits_of(rows: pd.DataFrame) -> str:
    """The splits that occur in rows of the sample table, in words."""
    return listed(str(split) for split in rows["split"].unique())


def place(row: pd.Series) -> str:
    """Where a sample is, e.g. ``train[17]``."""
    return f"{row['split']}[{row['index']}]"


def places(rows: pd.DataFrame) -> tuple[str, ...]:
    """Where the first few samples are."""
    return tuple(place(row) for _, row in rows.head(EXAMPLES).iterrows())
