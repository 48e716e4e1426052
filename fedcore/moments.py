"""Count, mean and spread of a table's columns, which add up over clients without their rows.

Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances,
Stanford STAN-CS-79-773, 1979 (equations 2.1a and 2.1b); Algorithms for Computing the Sample
Variance, The American Statistician 37(3), 1983.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from fedcore.models.preprocess import TablePreprocess


@dataclass(frozen=True)
class Moments:
    """What standardising needs of some rows.

    Attributes:
      count: rows, at least 1.
      mean: one per column.
      squares: one per column, the sum of squared deviations from the mean (M2).
    """

    count: int
    mean: tuple[float, ...]
    squares: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count={self.count}: moments need at least 1 row.")
        if len(self.mean) != len(self.squares):
            raise ValueError(
                f"{len(self.mean)} means and {len(self.squares)} squares; each column has both."
            )
        if not all(map(math.isfinite, (*self.mean, *self.squares))):
            raise ValueError("mean and squares must be finite; encode missing values before.")
        if self.squares and min(self.squares) < 0:
            raise ValueError("squares must not be negative; they are sums of squares.")

    def to_json(self) -> dict[str, Any]:
        """A JSON value with the fields."""
        return {"count": self.count, "mean": list(self.mean), "squares": list(self.squares)}


def moments(rows: np.ndarray) -> Moments:
    """The moments of rows (n, columns), in float64 whatever their type and layout.

    Raises:
      ValueError: no row, or a value that is not finite.
    """
    values = np.ascontiguousarray(rows, dtype=np.float64)
    if not len(values):
        raise ValueError("count=0: moments need at least 1 row.")
    mean = values.mean(axis=0)
    squares = np.square(values - mean).sum(axis=0)
    return Moments(len(values), tuple(mean.tolist()), tuple(squares.tolist()))


def merged(parts: Iterable[Moments]) -> Moments:
    """The moments of all rows together, added in the order given.

    In client-id order every engine gets the same bits. Of one part it is that part.

    >>> merged([Moments(1, (0.0,), (0.0,)), Moments(3, (4.0,), (6.0,))])
    Moments(count=4, mean=(3.0,), squares=(18.0,))

    Raises:
      ValueError: no part, or parts of different numbers of columns.
    """
    several = list(parts)
    if not several:
        raise ValueError("parts=[]: at least one client's moments are needed.")
    columns = {len(part.mean) for part in several}
    if len(columns) > 1:
        raise ValueError(f"parts have {sorted(columns)} columns; all need the same.")
    return reduce(_plus, several)


def standardiser(of: Moments) -> TablePreprocess:
    """Zero mean and unit variance; a column without spread is only centred."""
    spread = (math.sqrt(squares / of.count) for squares in of.squares)
    return TablePreprocess(of.mean, tuple(value or 1.0 for value in spread))


def _plus(one: Moments, other: Moments) -> Moments:
    count = one.count + other.count
    mean, squares = [], []
    columns = zip(one.mean, one.squares, other.mean, other.squares, strict=True)
    for mean_1, squares_1, mean_2, squares_2 in columns:
        apart = mean_2 - mean_1
        mean.append(mean_1 + apart * (other.count / count))
        squares.append(squares_1 + squares_2 + apart * apart * (one.count * other.count / count))
    return Moments(count, tuple(mean), tuple(squares))
