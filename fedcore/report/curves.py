"""Learning curves as a PNG: loss and scores by round, overall, per client, the worst one."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcore.evaluation import HIGHER_IS_BETTER, summarise
from fedcore.report.history import Curve, curves_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LINES = 12
"""Up to this many clients get a line of their own; more become a band."""

PANELS = tuple(sorted(HIGHER_IS_BETTER, key=lambda name: (name != "loss", name)))
_TITLES = {"auc": "AUC", "r2": "R²"}
_OVERALL, _CLIENTS, _WORST = "#0b4f8a", "#8fb4d6", "#c1121f"


def plot_curves(records: Sequence[Mapping[str, Any]], *, title: str = "") -> bytes:
    """A PNG with one row per split and one panel per metric.

    A thick line is the score over all samples. Up to twelve clients are thin lines; more are a
    band from their 10th to their 90th percentile with the median dotted. The client that ends
    worst is dashed and named.

    Args:
      records: as for :func:`fedcore.report.history.curves_of`.
      title: over the whole figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = {
        split: {metric: metrics[metric] for metric in PANELS if metric in metrics}
        for split, metrics in curves_of(records).items()
    }
    curves = {split: metrics for split, metrics in curves.items() if metrics}
    columns = max((len(metrics) for metrics in curves.values()), default=1)
    rows = max(len(curves), 1)
    # Margins in inches, by hand: a layout engine draws everything once more to find them.
    width, height = 0.2 + 4.1 * columns, 0.4 + 2.9 * rows
    figure = Figure(figsize=(width, height))
    canvas = FigureCanvasAgg(figure)
    figure.subplots_adjust(
        left=0.55 / width, right=1 - 0.15 / width, bottom=0.5 / height, top=1 - 0.7 / height,
        wspace=0.55 / 3.5, hspace=0.8 / 2.2,
    )  # fmt: skip
    for row, (split, metrics) in enumerate(curves.items()):
        for column, (metric, curve) in enumerate(metrics.items()):
            axes = figure.add_subplot(rows, columns, row * columns + column + 1)
            _panel(axes, metric, curve)
            axes.set_title(f"{_TITLES.get(metric, metric.replace('_', ' '))}, {split}", fontsize=10)
    if not curves:
        figure.text(0.5, 0.5, "no metrics recorded", ha="center", va="center")
    if title:
        figure.suptitle(title, fontsize=11)
    buffer = io.BytesIO()
    canvas.print_figure(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _panel(axes: Axes, metric: str, curve: Curve) -> None:
    from matplotlib.ticker import MaxNLocator

    marker = "o" if len(curve.rounds) < 3 else None
    final = {client: _last(values) for client, values in curve.clients.items()}
    worst = summarise(
        {client: {metric: value} for client, value in final.items() if not np.isnan(value)}, metric
    )
    if len(curve.clients) > MOST_LINES:
        _band(axes, curve)
    else:
        for index, (client, values) in enumerate(sorted(curve.clients.items())):
            if worst is None or client != worst[0]:
                label = "each client" if index == 0 else None
                axes.plot(
                    curve.rounds, values, color=_CLIENTS, lw=1, marker=marker, ms=3, label=label
                )
    if worst is not None and len(curve.clients) > 1:
        values = curve.clients[worst[0]]
        axes.plot(
            *_defined(curve.rounds, values), color=_WORST, lw=1.3, ls="--", marker=marker, ms=3,
            label=f"worst: {worst[0]} ({worst[1]:.3f})",
        )  # fmt: skip
    overall = _last(curve.overall)
    if not np.isnan(overall):
        axes.plot(
            *_defined(curve.rounds, curve.overall), color=_OVERALL, lw=2.2, marker=marker, ms=4,
            label=f"overall ({overall:.3f})",
        )  # fmt: skip
    axes.set_xlabel("round", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, frameon=False)


def _band(axes: Axes, curve: Curve) -> None:
    values = np.array(list(curve.clients.values()))
    measured = ~np.isnan(values).all(axis=0)
    low, middle, high = np.nanquantile(values[:, measured], [0.1, 0.5, 0.9], axis=0)
    rounds = curve.rounds[measured]
    axes.fill_between(
        rounds, low, high, color=_CLIENTS, alpha=0.4, lw=0,
        label=f"{len(curve.clients)} clients, 10 to 90 %",
    )  # fmt: skip
    axes.plot(rounds, middle, color=_CLIENTS, lw=1.2, ls=":", label="median client")


def _defined(rounds: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keep = ~np.isnan(values)
    return rounds[keep], values[keep]


def _last(values: np.ndarray) -> float:
    """The last defined value, NaN when there is none."""
    defined = values[~np.isnan(values)]
    return float(defined[-1]) if len(defined) else float("nan")
