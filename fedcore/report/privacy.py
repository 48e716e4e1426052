"""Privacy for the operator: epsilon spent and left of each data owner, as a table and a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedcore.privacy.budget import Budget, Standing
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.spending import spending
from fedcore.report.tables import markdown_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fedcore.config import RunConfig

MOST_OWNERS = 12
"""Up to this many owners get a line of their own; more become a band."""

_MOST_POINTS = 40
_LINE, _OVER, _LIMIT = "#0b4f8a", "#c1121f", "#444444"


@dataclass(frozen=True)
class Course:
    """How one owner's spending went.

    Attributes:
      releases: counts of releases, rising from 0.
      epsilon: spent after each of them.
    """

    releases: tuple[int, ...]
    epsilon: tuple[float, ...]


def course(
    events: Sequence[SampledGaussian], budget: Budget, *, most: int = _MOST_POINTS
) -> Course:
    """What was spent after each release; of many, about ``most`` evenly apart and the last.

    Args:
      events: in the order of their release, one for each round that charged.
      budget: whose delta and neighbours count.
    """
    releases = _evenly(len(events), most)
    return Course(releases, tuple(budget.of(events[:each]).value for each in releases))


def course_of_run(
    config: RunConfig, records: Sequence[Mapping[str, Any]], *, most: int = _MOST_POINTS
) -> Course:
    """What a run had told after each of its rounds, whoever paid for them; at most about ``most``.

    Args:
      records: JSON of the rounds, oldest first.
    """
    releases = _evenly(len(records), most)
    told = [spending(config, records[:each]) for each in releases]
    return Course(releases, tuple(one.overall.value if one else 0.0 for one in told))


def _evenly(count: int, most: int) -> tuple[int, ...]:
    return tuple(sorted({*range(0, count, -(-max(count, 1) // most)), count}))


def budget_table(standings: Mapping[str, Standing]) -> str:
    """A row per owner: epsilon spent by both bounds, what is left, and the state; worst first.

    Args:
      standings: owner -> standing, such as ``Ledger.standing`` gives it.
    """
    ranks = {"exhausted": 0, "warning": 1, "ok": 2}
    ordered = sorted(
        standings.items(),
        key=lambda each: (ranks[each[1].state], -each[1].spent.value / each[1].budget.epsilon),
    )
    rows = [
        [
            owner,
            f"**{one.state}**" if one.state != "ok" else "ok",
            one.spent.value,
            one.left,
            f"{one.budget.epsilon:g}",
            f"{one.spent.value / one.budget.epsilon:.0%}",
            one.spent.rdp,
            one.spent.prv,
            f"{one.budget.delta:g}",
            one.budget.neighbours.replace("_", " "),
        ]
        for owner, one in ordered
    ]
    header = ["owner", "state", "epsilon spent", "left", "budget", "used", "by RDP", "by PRV"]
    return markdown_table([*header, "delta", "neighbours"], rows)


def course_table(courses: Mapping[str, Course], budgets: Mapping[str, Budget]) -> str:
    """A row per release and a column per owner: epsilon spent then, and what was left.

    Args:
      courses: owner -> course.
      budgets: owner -> budget.
    """
    owners = sorted(courses)
    at = {
        owner: dict(zip(one.releases, one.epsilon, strict=True)) for owner, one in courses.items()
    }

    def shown(owner, releases):
        if (spent := at[owner].get(releases)) is None:
            return None
        return f"{spent:.3f} ({max(0.0, budgets[owner].epsilon - spent):.3f} left)"

    every = sorted({releases for one in courses.values() for releases in one.releases})
    rows = [[releases, *(shown(owner, releases) for owner in owners)] for releases in every]
    return markdown_table(["releases", *owners], rows)


def plot_budgets(
    courses: Mapping[str, Course], budgets: Mapping[str, Budget], *, title: str = ""
) -> bytes:
    """A PNG: share of its budget that each owner has spent, by release.

    Owners past their warning are red and named. More than twelve owners are a band from the least
    to the most spent, with those who are past their warning drawn over it.

    Args:
      courses: owner -> course.
      budgets: owner -> budget.
      title: over the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(6.4, 3.6), layout="tight")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shares = {
        owner: [epsilon / budgets[owner].epsilon for epsilon in one.epsilon]
        for owner, one in courses.items()
    }
    _lines(axes, courses, shares, budgets)
    axes.axhline(1, color=_LIMIT, lw=1)
    for warn_at in sorted({budgets[owner].warn_at for owner in courses}):
        axes.axhline(warn_at, color=_LIMIT, lw=0.8, ls=":")
    axes.set_ylim(0, max([1.05, *(1.05 * max(each) for each in shares.values())]))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("releases", fontsize=9)
    axes.set_ylabel("epsilon spent of the budget", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, frameon=False)
    if title:
        axes.set_title(title, fontsize=11)
    buffer = io.BytesIO()
    canvas.print_figure(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _lines(
    axes: Axes,
    courses: Mapping[str, Course],
    shares: Mapping[str, Sequence[float]],
    budgets: Mapping[str, Budget],
) -> None:
    import numpy as np

    warned = [owner for owner in sorted(shares) if shares[owner][-1] >= budgets[owner].warn_at]
    calm = [owner for owner in sorted(shares) if owner not in warned]
    if len(shares) > MOST_OWNERS and calm:
        grid = np.unique(np.concatenate([courses[owner].releases for owner in calm]))
        lines = [np.interp(grid, courses[owner].releases, shares[owner]) for owner in calm]
        low, high = np.min(lines, axis=0), np.max(lines, axis=0)
        axes.fill_between(grid, low, high, color=_LINE, alpha=0.3, lw=0)
        axes.plot(grid, np.median(lines, axis=0), color=_LINE, lw=1.2, label=f"{len(calm)} owners")
    else:
        for owner in calm:
            axes.plot(courses[owner].releases, shares[owner], color=_LINE, lw=1.2, alpha=0.7)
    for owner in warned[:MOST_OWNERS]:
        label = f"{owner} ({shares[owner][-1]:.0%})"
        axes.plot(courses[owner].releases, shares[owner], color=_OVER, lw=1.6, label=label)
