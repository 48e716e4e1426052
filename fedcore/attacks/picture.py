"""Originals beside what was reconstructed of them, as a PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np


def reconstruction_picture(
    originals: Sequence[np.ndarray] | None,
    reconstructions: Mapping[str, Sequence[np.ndarray]],
    *,
    low: float,
    high: float,
    captions: Mapping[str, Sequence[str]] | None = None,
) -> bytes:
    """PNG: a row per record, the original on the left, one column per attacked training.

    Args:
      originals: images (channels, height, width) as the model reads them; None leaves them out,
        where others than the run's operator see the picture.
      reconstructions: heading of a column -> one image per original.
      low: value of black.
      high: value of white; values outside are cut.
      captions: heading -> what stands under each of its images, e.g. the cosine.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first = {} if originals is None else {"original": originals}
    columns = {**first, **reconstructions}
    records = len(next(iter(columns.values()), ()))
    if not records or any(len(images) != records for images in columns.values()):
        raise ValueError(f"{records} originals: every column needs one image for each.")
    figure = Figure(
        figsize=(1.7 * len(columns), 0.3 + 1.8 * records), dpi=100, layout="constrained"
    )
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(records, len(columns), squeeze=False)
    for column, (heading, images) in enumerate(columns.items()):
        axes[0, column].set_title(heading, fontsize=9)
        for row, image in enumerate(images):
            place = axes[row, column]
            shown = np.clip((np.asarray(image, np.float64) - low) / (high - low), 0, 1)
            shown = shown.transpose(1, 2, 0)
            place.imshow(shown if shown.shape[2] == 3 else shown[:, :, 0], "gray", vmin=0, vmax=1)
            place.set_xticks([])
            place.set_yticks([])
            if captions and heading in captions:
                place.set_xlabel(captions[heading][row], fontsize=8)
    buffer = io.BytesIO()
    canvas.print_figure(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
