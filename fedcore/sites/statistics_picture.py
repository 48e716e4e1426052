"""Mean and spread of each column at each site beside those of all together, as a PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fedcore.sites.federated_statistics import FederatedStatistics, PooledColumn
from fedcore.sites.site_statistics import SiteStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLUMNS, MOST_SITES, ACROSS = 12, 24, 4
_SITE, _ALL, _GONE = "#4c72b0", "#c1121f", "#9a9a9a"


def statistics_picture(told: Mapping[str, SiteStatistics], pooled: FederatedStatistics) -> bytes:
    """PNG with a panel for each of the first twelve columns, over all rows.

    A dot and its bar are mean and one standard deviation: of each site (the first 24), and last of
    all; there the box goes from the first to the third quartile. A cross: not told, since a group
    is too small.

    Args:
      told: site -> what it told.
      pooled: the same, added up.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [one for one in pooled.columns if not one.label][:MOST_COLUMNS]
    sites = [site for site in sorted(told) if not told[site].code][:MOST_SITES]
    across = max(1, min(ACROSS, len(shown)))
    down = max(1, math.ceil(len(shown) / across))
    width = max(2.4, 0.35 * (len(sites) + 1))
    figure = Figure(figsize=(0.4 + width * across, 0.4 + 2.4 * down), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for at, column in enumerate(shown, start=1):
        _panel(figure.add_subplot(down, across, at), column, sites, told)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _panel(
    axes: Axes, column: PooledColumn, sites: list[str], told: Mapping[str, SiteStatistics]
) -> None:
    for at, site in enumerate(sites):
        cell = told[site].cells.get(("", column.column))
        if cell is None:
            # Its place is beside the axis: nothing is said of where it would be.
            axes.plot([at], [0.04], "x", color=_GONE, transform=axes.get_xaxis_transform())
        elif cell.count:
            _dot(axes, at, cell.mean, cell.variance, _SITE)
    last = len(sites)
    if column.mean is not None and column.variance is not None:
        quartiles = {one.share: one.value for one in column.quantiles if one.error is not None}
        if {0.25, 0.75} <= quartiles.keys():
            low, high = quartiles[0.25], quartiles[0.75]
            axes.bar([last], [high - low], bottom=low, width=0.5, color=_ALL, alpha=0.25)
        _dot(axes, last, column.mean, column.variance, _ALL)
    axes.set_xlim(-0.5, last + 0.5)
    axes.set_xticks(range(last + 1), [*sites, "all"], rotation=60, ha="right", fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_title(column.column[:32], fontsize=9, parse_math=False)


def _dot(axes: Axes, at: int, mean: float, variance: float, colour: str) -> None:
    axes.errorbar([at], [mean], yerr=[math.sqrt(variance)], fmt="o", color=colour, markersize=4)
