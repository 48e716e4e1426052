"""What a site told of its table: the strict reader of :mod:`fedcore.sites.local_statistics`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedcore.sites.local_statistics import BY_LABEL, JOINED, KEPT, SMALL, TOLD
from fedcore.sites.refusal import Reason, Refusal
from fedcore.sites.wanted import Wanted

MOST_ROWS = 2**53
MOST_MEAN = 3.5e38  # inputs are float32
MOST_VARIANCE = MOST_MEAN**2
FIELDS = ("count", "missing", "mean", "variance", "edges", "bins")


@dataclass(frozen=True)
class ColumnStatistics:
    """One column of one site, over all of its rows or those of one label.

    Attributes:
      count: rows that have a value.
      missing: rows that have none.
      mean, variance: of the values; 0 where there are none.
      edges: of the bins that the site kept apart, ascending.
      bins: rows below the first edge, between edges, and from the last one on.
    """

    count: int
    missing: int
    mean: float
    variance: float
    edges: tuple[float, ...] = ()
    bins: tuple[int, ...] = ()


@dataclass(frozen=True)
class SiteStatistics:
    """What one site told.

    Attributes:
      wanted: what it was asked.
      cells: (label, column) -> statistics; the label "" stands for all rows. Those of a group that
        is too small are not there.
      code: why there are none at all; empty where there are.
    """

    wanted: Wanted
    cells: Mapping[tuple[str, str], ColumnStatistics] = field(default_factory=dict)
    code: str = ""


def read_statistics(value: Any, wanted: Wanted) -> SiteStatistics:
    """The statistics in what a site sent, complete and consistent; no list is longer than asked.

    Raises:
      Refusal: ``schema``, with the field; the content is never told.
    """
    _require(isinstance(value, dict), "statistics")
    cells = dict(_table(value, "", [""], wanted))
    names = {"code", *FIELDS}
    if wanted.labels:
        apart = dict(_table(value, BY_LABEL, wanted.labels, wanted))
        names |= {f"{name}{BY_LABEL}" for name in (("code", *FIELDS) if apart else ("code",))}
        _check_parts(cells, apart, wanted)
        cells |= apart
    _require(set(value) == names, "statistics")
    return SiteStatistics(wanted, cells)


def _table(
    value: Mapping[str, Any], suffix: str, labels: Sequence[str], wanted: Wanted
) -> Iterator[tuple[tuple[str, str], ColumnStatistics]]:
    every = [(label, name) for label in labels for name in wanted.columns]
    codes = _list(value, f"code{suffix}", len(every))
    _require(all(code in (TOLD, SMALL) for code in codes), f"code{suffix}")
    told = [cell for cell, code in zip(every, codes, strict=True) if code == TOLD]
    if not told:
        _require(bool(suffix), "code")  # a site with nothing to tell says so by a code alone
        return
    counts, missing = (_counts(value, f"{one}{suffix}", len(told)) for one in FIELDS[:2])
    means = _numbers(value, f"mean{suffix}", len(told), -MOST_MEAN, MOST_MEAN)
    variances = _numbers(value, f"variance{suffix}", len(told), 0.0, MOST_VARIANCE)
    edges = [wanted.edges.get(name, ()) for _, name in told]
    words = _list(value, f"edges{suffix}", sum(map(len, edges)))
    _require(all(word in (KEPT, JOINED) for word in words), f"edges{suffix}")
    marks = iter(words)
    kept = [tuple(edge for edge in each if next(marks) == KEPT) for each in edges]
    size = sum(len(each) + 1 for each, all_ in zip(kept, edges, strict=True) if all_)
    bins = iter(_counts(value, f"bins{suffix}", size))
    for cell, count, none, mean, variance, ours, named in zip(
        told, counts, missing, means, variances, kept, edges, strict=True
    ):
        own = tuple(next(bins) for _ in range(len(ours) + 1)) if named else ()
        _require(not named or sum(own) == count, f"bins{suffix}")
        _require(count > 0 or mean == variance == 0, f"mean{suffix}")
        yield cell, ColumnStatistics(count, none, mean, variance, ours, own)


def _check_parts(
    cells: Mapping[tuple[str, str], ColumnStatistics],
    apart: Mapping[tuple[str, str], ColumnStatistics],
    wanted: Wanted,
) -> None:
    """Each row has one label, so that what labels have adds up to what all have."""
    for name in {name for _, name in apart}:
        parts = [apart.get((label, name)) for label in wanted.labels]
        total = cells.get(("", name))
        _require(total is not None and None not in parts, f"code{BY_LABEL}")
        for one in ("count", "missing"):
            added = sum(getattr(part, one) for part in parts)
            _require(added == getattr(total, one), f"{one}{BY_LABEL}")


def _list(value: Mapping[str, Any], name: str, length: int) -> list[Any]:
    found = value.get(name)
    if not isinstance(found, list) or len(found) != length:
        raise Refusal(Reason.SCHEMA, name)
    return found


def _counts(value: Mapping[str, Any], name: str, length: int) -> list[int]:
    found = _list(value, name, length)
    _require(all(type(one) is int and 0 <= one <= MOST_ROWS for one in found), name)
    return found


def _numbers(
    value: Mapping[str, Any], name: str, length: int, low: float, high: float
) -> list[float]:
    found = _list(value, name, length)
    is_number = all(type(one) in (int, float) and math.isfinite(one) for one in found)
    _require(is_number and all(low <= one <= high for one in found), name)
    return [float(one) for one in found]


def _require(holds: bool, name: str) -> None:
    if not holds:
        raise Refusal(Reason.SCHEMA, name)
