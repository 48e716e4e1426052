"""Who holds what: a table of labels by client and a picture of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from fedcore.data.dataset import Dataset
from fedcore.partition.partition import Partition
from fedcore.task import TaskKind

if TYPE_CHECKING:
    import pandas as pd


def class_table(dataset: Dataset, partition: Partition, split: str = "train") -> pd.DataFrame:
    """Number of samples of each label (columns) at each client (rows, in canonical order).

    Multilabel: samples that have the label, so a row may add up to more or less than the client's
    size. Regression: samples in each tenth of the split's values.
    """
    import pandas as pd

    targets = dataset.splits[split].targets
    labels = list(dataset.task.labels)
    if dataset.task.kind is TaskKind.MULTILABEL:
        member = targets.astype(np.int64)
    elif dataset.task.kind is TaskKind.REGRESSION:
        labels = [f"{labels[0]}, tenth {number}" for number in range(1, 11)]
        member = np.eye(10, dtype=np.int64)[dataset.task.strata(targets)]
    else:
        member = np.eye(len(labels), dtype=np.int64)[targets]
    held = partition.indices.get(split, {})
    nothing = np.zeros(0, dtype=np.int64)
    counts = [member[held.get(client, nothing)].sum(axis=0) for client in partition.clients]
    rows = pd.Index(partition.clients, name="client")
    return pd.DataFrame(np.stack(counts), index=rows, columns=labels)


def partition_picture(dataset: Dataset, partition: Partition, split: str = "train") -> bytes:
    """:func:`class_picture` of a partition's samples of a split."""
    table = class_table(dataset, partition, split)
    held = partition.indices.get(split, {})
    sizes = [len(held.get(client, ())) for client in partition.clients]
    how = partition.how
    named = how.get("name", "") if how.get("kind") in ("preset", "plugin") else ""
    what = " ".join(str(word) for word in (how.get("kind", ""), named) if word)
    title = f"{dataset.name}, {split}: {len(sizes)} clients, {what}, seed {partition.seed}"
    return class_picture(table, sizes, title)


def class_picture(table: pd.DataFrame, sizes: Sequence[int], title: str) -> bytes:
    """PNG: client sizes as bars over a heat map of each client's label mix.

    Args:
      table: samples of each label (columns) at each client (rows).
      sizes: samples of each client.

    Colour is the label's fraction of the client's samples, so that small clients are readable;
    counts are written into the cells where there is room for them.
    """
    counts = tuple(tuple(int(count) for count in row) for row in table.to_numpy())
    names = tuple(map(str, table.index)), tuple(map(str, table.columns))
    return _draw(counts, *names, tuple(sizes), title)


@lru_cache(maxsize=32)  # drawing takes longer than a short run's rounds
def _draw(
    counts: tuple[tuple[int, ...], ...],
    names: tuple[str, ...],
    columns: tuple[str, ...],
    sizes: tuple[int, ...],
    title: str,
) -> bytes:
    """:func:`class_picture` of plain values: counts by client and label, names of both."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = np.array(counts)
    mix = table / np.maximum(np.array(sizes), 1)[:, None]
    clients, labels = mix.shape
    figure = Figure(
        figsize=(
            float(np.clip(2.5 + 0.55 * clients, 7, 18)),
            float(np.clip(3 + 0.4 * labels, 4, 14)),
        ),
        dpi=100,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    bars, heat = figure.subplots(2, 1, sharex=True, height_ratios=[1, max(1.0, 0.3 * labels)])
    bars.bar(np.arange(clients), sizes, color="#4c72b0")
    bars.set_ylabel("samples")
    bars.spines[["top", "right"]].set_visible(False)
    bars.set_title(title)
    top = max(float(mix.max()), 1e-9)
    image = heat.imshow(
        mix.T, aspect="auto", cmap="viridis", vmin=0, vmax=top, interpolation="none"
    )
    heat.set_yticks(range(labels), [_short(name) for name in columns])
    step = -(-clients // 50)
    shown = range(0, clients, step)
    heat.set_xticks(list(shown), [_short(names[at]) for at in shown], rotation=90)
    heat.tick_params(labelsize=7 if max(clients, labels) > 20 else 9)
    if clients <= 20 and labels <= 20:
        for (client, label), count in np.ndenumerate(table):
            colour = "black" if mix[client, label] > 0.6 * top else "white"
            heat.text(client, label, str(count), ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=[bars, heat], label="fraction of the client's samples")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _short(name: str) -> str:
    """At most 24 characters of a name."""
    return name if len(name) <= 24 else name[:23] + "\N{HORIZONTAL ELLIPSIS}"
