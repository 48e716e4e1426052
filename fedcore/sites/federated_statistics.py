"""Statistics of all sites' rows together, from what each told of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fedcore import moments
from fedcore.moments import Moments
from fedcore.report.tables import markdown_table
from fedcore.sites.site_statistics import ColumnStatistics, SiteStatistics

QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Quantile:
    """The smallest value that a share of the rows does not exceed, by linear interpolation.

    Attributes:
      share: of the rows, between 0 and 1.
      value: within ``error`` of it.
      error: width of the bin that it lies in; None: it lies beyond an outer edge, which is
        ``value``, and may be anywhere there.
    """

    share: float
    value: float
    error: float | None


@dataclass(frozen=True)
class PooledColumn:
    """One column over the sites that told it.

    Attributes:
      label: whose rows; "" for all.
      sites: that told it.
      silent: sites that told other columns, and of this one that a group is too small.
      mean, variance: None where no row has a value.
      quantiles: none where the column has no bins.
    """

    column: str
    label: str
    sites: tuple[str, ...]
    silent: tuple[str, ...]
    count: int
    missing: int
    mean: float | None
    variance: float | None
    quantiles: tuple[Quantile, ...]


@dataclass(frozen=True)
class FederatedStatistics:
    """All that the sites told, added up.

    Attributes:
      columns: those of all rows, then label by label.
      left_out: site that told nothing -> its code.
    """

    columns: tuple[PooledColumn, ...]
    left_out: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """A JSON value with the fields."""
        return asdict(self)

    def to_markdown(self) -> str:
        """A table, one line for each column and label: also at which sites a group is too small to
        be told of, and who is left out."""
        shares = sorted({one.share for row in self.columns for one in row.quantiles})
        header = ["column", "label", "sites", "rows", "missing", "mean", "deviation"]
        rows = [
            [row.column, row.label or "all", len(row.sites), row.count, row.missing]
            + [row.mean, None if row.variance is None else math.sqrt(row.variance)]
            + [_words({one.share: one for one in row.quantiles}.get(share)) for share in shares]
            + [", ".join(row.silent) or None]
            for row in self.columns
        ]
        header += [*(f"{100 * share:g} %" for share in shares), "too small at"]
        lines = [markdown_table(header, rows)]
        lines += [f"Site {site} is left out: {code}." for site, code in self.left_out.items()]
        return "\n\n".join(lines)


def merged(
    statistics: Mapping[str, SiteStatistics], shares: Sequence[float] = QUARTILES
) -> FederatedStatistics:
    """What the sites told, together; the same whatever their order.

    Variances by :func:`fedcore.moments.merged` (Chan, Golub, LeVeque 1979), in order of the sites'
    names; quantiles in the bins that every site of the column kept apart.

    Args:
      statistics: site -> what it told.
      shares: of the quantiles, between 0 and 1.

    Raises:
      ValueError: a share outside of 0 to 1, nobody, or sites that were asked differently.
    """
    if wrong := [share for share in shares if not 0 <= share <= 1]:
        raise ValueError(f"shares={wrong}: the share of a quantile is between 0 and 1.")
    sites = dict(sorted(statistics.items()))
    wanted = next((one.wanted for one in sites.values()), None)
    if wanted is None or any(one.wanted != wanted for one in sites.values()):
        raise ValueError(
            f"{len(sites)} sites were not asked for the same; ask at least one, and all alike."
        )
    telling = {site: one.cells for site, one in sites.items() if not one.code}
    columns = []
    for label in ("", *wanted.labels):
        for column in wanted.columns:
            cells = {site: c[label, column] for site, c in telling.items() if (label, column) in c}
            silent = tuple(site for site in telling if site not in cells)
            columns.append(_pooled(column, label, cells, silent, shares))
    return FederatedStatistics(
        tuple(columns), {site: one.code for site, one in sites.items() if one.code}
    )


def _pooled(
    column: str,
    label: str,
    cells: Mapping[str, ColumnStatistics],
    silent: tuple[str, ...],
    shares: Sequence[float],
) -> PooledColumn:
    some = [cell for cell in cells.values() if cell.count]
    parts = [Moments(one.count, (one.mean,), (one.variance * one.count,)) for one in some]
    total = moments.merged(parts) if parts else None
    edges, bins = _common(some)
    return PooledColumn(
        column,
        label,
        tuple(cells),
        silent,
        sum(cell.count for cell in some),
        sum(cell.missing for cell in cells.values()),
        total.mean[0] if total else None,
        total.squares[0] / total.count if total else None,
        tuple(_quantile(edges, bins, share) for share in shares) if edges else (),
    )


def _common(cells: Sequence[ColumnStatistics]) -> tuple[list[float], list[int]]:
    """The edges that all kept, and the counts between them."""
    edges = sorted(set.intersection(*(set(cell.edges) for cell in cells))) if cells else []
    bins = [0] * (len(edges) + 1)
    for cell in cells:
        for at, count in enumerate(cell.bins):
            lower = cell.edges[at - 1] if at else -math.inf
            bins[sum(edge <= lower for edge in edges)] += count
    return edges, bins


def _quantile(edges: Sequence[float], bins: Sequence[int], share: float) -> Quantile:
    # 0.07 * 100 is 7.000000000000001, but the seventh of a hundred is meant
    rank = max(1, math.ceil(share * sum(bins) * (1 - 1e-15)))
    before = at = 0
    while before + bins[at] < rank:
        before += bins[at]
        at += 1
    if at == 0 or at == len(edges):
        return Quantile(share, edges[0] if at == 0 else edges[-1], None)
    low, high = edges[at - 1], edges[at]
    return Quantile(share, low + (high - low) * (rank - before) / bins[at], high - low)


def _words(quantile: Quantile | None) -> str | None:
    if quantile is None:
        return None
    error = "open" if quantile.error is None else f"± {quantile.error:g}"
    return f"{quantile.value:.3f} ({error})"
