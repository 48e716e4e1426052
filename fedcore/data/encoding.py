"""How a table's named columns become the numbers a model sees; kept with that model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

Missing = Literal["refuse", "drop", "indicate"]
WHOLE = re.compile(r"([+-]?\d+)\.0+")


@dataclass(frozen=True)
class TableEncoding:
    """Numeric columns as they are, then one-hot categories, then marks of missing values.

    It holds no statistic of the data: standardising is a separate, later step.

    Attributes:
      numeric: names of the numeric columns.
      categorical: (column, its categories as text) in order; whole numbers are written without
        decimals, so that 1, 1.0 and "1.0" are the category ``1``.
      drop_first: whether the first category of each column has no output of its own.
      missing: what happens to a row with a missing value. ``refuse`` and ``drop``: ``encode``
        raises (whoever loads training data drops by ``complete`` first, a served model cannot);
        ``indicate``: 0, and one output per column that says 1 where it was missing.
    """

    numeric: tuple[str, ...] = ()
    categorical: tuple[tuple[str, tuple[str, ...]], ...] = ()
    drop_first: bool = False
    missing: Missing = "refuse"

    def __post_init__(self) -> None:
        repeated = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if repeated:
            raise ValueError(f"columns {repeated} are named twice; name each once.")
        if not self.columns:
            raise ValueError("numeric=() and categorical=(): an encoding needs a column.")
        for name, categories in self.categorical:
            if not categories or len(set(categories)) < len(categories):
                raise ValueError(
                    f"categories of {name!r} are {categories!r}: one at least, each once."
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the raw columns needed."""
        return (*self.numeric, *(name for name, _ in self.categorical))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the d outputs, e.g. ``age``, ``cp=2``, ``chol is missing``."""
        first = 1 if self.drop_first else 0
        hot = [f"{name}={value}" for name, values in self.categorical for value in values[first:]]
        marks = [f"{name} is missing" for name in self.columns if self.missing == "indicate"]
        return (*self.numeric, *hot, *marks)

    def complete(self, frame: pd.DataFrame) -> np.ndarray:
        """(n,) bool: rows without a missing value in the columns needed."""
        self._check_columns(frame)
        return np.logical_not(frame[list(self.columns)].isna().to_numpy()).all(axis=1)

    def told_missing(self, frame: pd.DataFrame) -> str:
        """How many rows miss a value, and where the first one does; empty when none does."""
        complete = self.complete(frame)
        if complete.all():
            return ""
        row = int(np.flatnonzero(~complete)[0])
        empty = [name for name in self.columns if frame[name].isna().iloc[row]]
        return (
            f"{int((~complete).sum())} of {len(frame)} rows have missing values, the first is "
            f"row {row} in {empty}"
        )

    def encode(self, frame: pd.DataFrame) -> np.ndarray:
        """(n, d) float32 of raw rows; columns by name, in any order, others are not looked at.

        Raises:
          ValueError: a column is missing, holds no number where one is needed, or holds an unknown
            category or (unless ``indicate``) a missing value; names column, row and value.
        """
        if self.missing != "indicate" and (incomplete := self.told_missing(frame)):
            raise ValueError(
                f"{incomplete}. Fill them or leave these rows out: the encoding was made with "
                f"missing={self.missing!r}."
            )
        first = 1 if self.drop_first else 0
        outputs = [self._numbers(frame, name)[:, None] for name in self.numeric]
        outputs += [
            self._one_hot(frame, name, values)[:, first:] for name, values in self.categorical
        ]
        if self.missing == "indicate":
            outputs.append(frame[list(self.columns)].isna().to_numpy())
        return np.concatenate([part.astype(np.float32) for part in outputs], axis=1)

    def to_json(self) -> dict[str, Any]:
        """A JSON value that ``from_json`` takes back."""
        return {
            "numeric": list(self.numeric),
            "categorical": [[name, list(values)] for name, values in self.categorical],
            "drop_first": self.drop_first,
            "missing": self.missing,
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> TableEncoding:
        """The encoding that ``to_json`` described."""
        return TableEncoding(
            numeric=tuple(value["numeric"]),
            categorical=tuple((name, tuple(values)) for name, values in value["categorical"]),
            drop_first=value["drop_first"],
            missing=value["missing"],
        )

    def features(self) -> dict[str, Any]:
        """The description of one input, as :class:`fedcore.data.dataset.Dataset` holds it."""
        return {"kind": "table", "names": list(self.names), "encoding": self.to_json()}

    def _check_columns(self, frame: pd.DataFrame) -> None:
        absent = [name for name in self.columns if name not in frame.columns]
        if absent:
            raise ValueError(
                f"columns {absent} are missing; needed are {list(self.columns)}, given were "
                f"{[str(name) for name in frame.columns]}."
            )

    def _numbers(self, frame: pd.DataFrame, name: str) -> np.ndarray:
        return np.nan_to_num(numbers(frame[name], name), nan=0.0)

    def _one_hot(self, frame: pd.DataFrame, name: str, values: tuple[str, ...]) -> np.ndarray:
        texts = category_texts(frame[name])
        unknown = sorted({text for text in texts if text is not None and text not in values})
        if unknown:
            row = texts.index(unknown[0])
            raise ValueError(
                f"column {name!r} holds unknown categories {unknown}, the first in row {row}; "
                f"known are {list(values)}."
            )
        return np.array([[text == value for value in values] for text in texts], bool).reshape(
            len(texts), len(values)
        )


def numbers(column: pd.Series, name: str) -> np.ndarray:
    """(n,) float64 of a column of numbers or of their texts; missing is NaN.

    Raises:
      ValueError: something is no finite number; names column, row and value.
    """
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.isinf(values) | (np.isnan(values) & ~column.isna().to_numpy())
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"column {name!r}, row {row}: {column.iloc[row]!r} is no finite number. Correct it, "
            "name it under missing_values, or make the column categorical."
        )
    return values


def category_texts(column: pd.Series) -> list[str | None]:
    """The column's values as category texts; None where missing.

    >>> import pandas as pd
    >>> category_texts(pd.Series([1.0, "2.0", "b", None], dtype=object))
    ['1', '2', 'b', None]
    """
    return [
        None if missing else _text(value)
        for value, missing in zip(column, column.isna(), strict=True)
    ]


def _text(value: Any) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    whole = WHOLE.fullmatch(str(value))
    return whole[1] if whole else str(value)
