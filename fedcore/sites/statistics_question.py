"""What an operator asks of all sites' columns, and the edges of bins for it that give nothing away
that the sites' descriptions have not said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from fedcore.moments import merged
from fedcore.settings import Settings
from fedcore.sites.description import Description
from fedcore.sites.planning import require_alike
from fedcore.sites.shared import in_order
from fedcore.sites.wanted import MOST_EDGES, Wanted, column_names, label_names

# Of a normal distribution all but one row in 370 lie within.
REACH = 3.0
BRIGHTEST = 255.0
# A word of English and the space after it.
BYTES_OF_A_WORD = 6.0


class StatisticsSettings(Settings):
    """Which statistics of the sites' columns are asked for."""

    split: Literal["train", "val", "test"] = Field("train", description="Of which rows.")
    by_label: bool = Field(
        False, description="Also of each label's rows apart, where the labels part the rows."
    )
    bins: int = Field(
        20,
        ge=0,
        le=MOST_EDGES - 1,
        description="Bins of each column of numbers, evenly from three standard deviations below "
        "its mean to three above. Quantiles are read from them: more bins are finer, and more "
        "of them are joined where they hold too few rows. 0: no quantiles.",
    )

    def wanted(self, descriptions: Sequence[Description]) -> Wanted:
        """The same in the sites' words. A column of categories has no bins: its mean says all.

        Raises:
          SitesDiffer: a site has other columns or labels than the rest.
        """
        sites = in_order(descriptions)
        require_alike(sites)
        first = sites[0]
        names = column_names(first.features, first.input_shape)
        labels = label_names(first.task) if self.by_label else ()
        edges = _edges(sites, names, self.bins) if self.bins else {}
        return Wanted(names, labels, edges, self.split)


def _edges(
    sites: Sequence[Description], names: Sequence[str], bins: int
) -> dict[str, tuple[float, ...]]:
    if (tops := _tops(sites[0])) is not None:
        return {name: _evenly(0.0, top, bins) for name, top in zip(names, tops, strict=True)}
    parts = [one.moments for one in sites if one.moments is not None]
    if not parts:
        return {}
    total, edges = merged(parts), {}
    for at in range(_numeric(sites[0], len(names))):
        reach = REACH * float(np.sqrt(total.squares[at] / total.count))
        if reach > 0:
            edges[names[at]] = _evenly(total.mean[at] - reach, total.mean[at] + reach, bins)
    return edges


def _tops(site: Description) -> tuple[float, ...] | None:
    """The upper end of each value where values have ends of their own; None for tables."""
    if site.kind == "image":
        return (BRIGHTEST,) * site.input_shape[-1]
    if site.kind == "text":
        return (site.input_shape[0] / BYTES_OF_A_WORD, float(site.input_shape[0]))
    return None


def _numeric(site: Description, width: int) -> int:
    """How many of the columns, the first ones, are numbers and not categories."""
    encoding = site.features.get("encoding")
    numeric = encoding.get("numeric") if isinstance(encoding, dict) else None
    return min(len(numeric), width) if isinstance(numeric, list) else width


def _evenly(low: float, high: float, bins: int) -> tuple[float, ...]:
    edges = np.linspace(low, high, bins + 1)
    return tuple(edges.tolist()) if (np.diff(edges) > 0).all() else ()
