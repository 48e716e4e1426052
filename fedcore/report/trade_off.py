"""What privacy costs in quality, for people: a table and a picture by epsilon."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

from fedcore.report.bootstrap import Interval
from fedcore.report.tables import markdown_table
from fedcore.trade_off.summary import Line, TradeOff

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOT_COVERED = (
    "To choose an epsilon, a learning rate or a model by looking at these scores is not covered by "
    "the epsilon of the run that is chosen."
)
_TITLES = {"auc": "AUC", "r2": "R²"}
# Blue and vermilion of Okabe and Ito's palette, which the colour-blind tell apart.
_PRIVATE, _REFERENCE = "#0072b2", "#d55e00"


def trade_off_table(found: TradeOff) -> str:
    """A row per epsilon: asked for, told by both bounds, noise, the score and what was lost."""
    has_rates = any(line.learning_rate is not None for line in _lines(found))
    rows = [
        [
            "reference" if line.epsilon is None else f"{line.epsilon:g}",
            line.rdp,
            line.prv,
            _range(line.noise_multipliers),
            *([_number(line.learning_rate)] if has_rates else []),
            len(line.seeds),
            line.score.estimate,
            _ends(line.score),
            round(line.lost.estimate, 3) + 0.0 if line.lost else None,  # no -0.000
            _ends(line.lost) if line.lost else None,
        ]
        for line in _lines(found)
    ]
    interval = f"{_level(found):.0%} interval"
    header = ["epsilon asked", "told (RDP)", "told (PRV)", "noise multiplier"]
    header += ["learning rate"] * has_rates
    header += ["seeds", _title(found.metric), interval, "lost", f"lost, {interval}"]
    return markdown_table(header, rows)


def trade_off_notes(found: TradeOff) -> list[str]:
    """Sentences that a reader of the table must not miss."""
    seeds = found.seeds
    several = len(seeds) > 1
    notes = [
        f"Scores: {_title(found.metric)} on {found.split} data. Told: the largest of the clients' "
        f"and runs', at delta {found.delta:g}, one record or client added or removed; of the two "
        "bounds the smaller counts. "
        + (
            f"Intervals are Student's over {len(seeds)} seeds ({', '.join(map(str, seeds))}): of "
            "the mean, and of what each seed loses against the reference with the same seed. So "
            "few seeds give the order of the error, not its exact size."
            if several
            else "One seed has no interval: nothing is said of how much chance there is in it."
        ),
        NOT_COVERED,
    ]
    if found.private_runs:
        notes.append(
            f"The {found.private_runs} runs with privacy together have told at most epsilon "
            f"{found.told:.3g} (RDP) of a record or client to whoever saw all their results."
        )
    if found.reference is not None:
        notes.append("The reference hides nothing: its scores are not covered by any epsilon.")
    notes += [
        f"{name} has no score: {why} Where training diverged take a smaller learning rate: "
        "grid.learning_rates, and grid.reference.learning_rates for the reference."
        for name, why in found.failures.items()
    ]
    if found.chosen_on:
        where = f"{found.chosen_on} data"
        notes.append(
            f"Learning rates: the best mean on {where} is shown."
            + (
                " These are the scores that are shown, which are too good by that choice."
                if found.chosen_on == found.split
                else ""
            )
        )
    return notes


def plot_trade_off(found: TradeOff, *, title: str = "") -> bytes:
    """A PNG: the score against epsilon on a logarithmic axis.

    Means with their intervals as bars, each seed as a faint dot; the reference is a line with its
    own interval as a band.

    Args:
      title: over the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    if found.reference is not None:
        _band(axes, found.reference)
    if found.lines:
        _curve(axes, found.lines, _level(found))
        epsilons = [line.epsilon or 0.0 for line in found.lines]
        axes.set_xticks(epsilons, [f"{epsilon:g}" for epsilon in epsilons])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(min(epsilons) / 1.25, max(epsilons) * 1.25)
    axes.set_xlabel(f"epsilon (delta {found.delta:g}), more privacy to the left", fontsize=9)
    axes.set_ylabel(f"{_title(found.metric)}, {found.split}", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False, loc="best")
    if title:
        axes.set_title(title, fontsize=11)
    buffer = io.BytesIO()
    canvas.print_figure(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _curve(axes: Axes, lines: tuple[Line, ...], level: float) -> None:
    epsilons = [line.epsilon or 0.0 for line in lines]
    means = [line.score.estimate for line in lines]
    aside = 1.02 * (epsilons[-1] / epsilons[0]) ** 0.01  # beside the bar that would hide them
    for line, epsilon in zip(lines, epsilons, strict=True):
        axes.plot(
            [epsilon * aside] * len(line.seeds), list(line.seeds.values()), "o", color=_PRIVATE,
            ms=4.5, alpha=0.4, mew=0, label="each seed" if line is lines[0] else None,
        )  # fmt: skip
    axes.plot(epsilons, means, "-", color=_PRIVATE, lw=1.4, alpha=0.8)
    reach = [0.0 if math.isnan(one.score.high) else one.score.high - one.score.estimate
             for one in lines]  # fmt: skip
    axes.errorbar(
        epsilons, means, yerr=reach, fmt="D", color=_PRIVATE, ms=5, lw=1.4, capsize=4,
        label=f"with privacy: mean, {level:.0%} interval" if any(reach) else "with privacy",
    )  # fmt: skip


def _band(axes: Axes, reference: Line) -> None:
    score = reference.score
    name = "without noise" if reference.noise_multipliers else "without privacy"
    axes.axhline(
        score.estimate, color=_REFERENCE, lw=1.4, ls="--", label=f"{name} ({score.estimate:.3f})"
    )
    if not math.isnan(score.low):
        axes.axhspan(score.low, score.high, color=_REFERENCE, alpha=0.15, lw=0)


def _lines(found: TradeOff) -> list[Line]:
    return [*([found.reference] if found.reference else []), *found.lines]


def _level(found: TradeOff) -> float:
    return next((line.score.level for line in _lines(found)), 0.95)


def _title(metric: str) -> str:
    return _TITLES.get(metric, metric.replace("_", " "))


def _ends(interval: Interval) -> str | None:
    if math.isnan(interval.low):
        return None
    return f"{interval.low:.3f} to {interval.high:.3f}"


def _range(noises: tuple[float, ...]) -> str | None:
    if not noises:
        return None
    low, high = f"{noises[0]:.4g}", f"{noises[-1]:.4g}"
    return low if low == high else f"{low} to {high}"


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"
