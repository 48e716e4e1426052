"""How like an original a reconstruction is: cosine, PSNR and SSIM."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Likeness:
    """The best match of the reconstructions with one original.

    Attributes:
      cosine: of the angle between the two, 1 is the original up to its length.
      psnr: peak signal-to-noise ratio in decibels; infinite for the original.
      ssim: structural similarity, 1 is the original; None for tables.
      index: which reconstruction.
    """

    cosine: float
    psnr: float
    ssim: float | None
    index: int

    def to_json(self) -> dict[str, Any]:
        """A JSON value; ``psnr`` is None where it is infinite."""
        return asdict(self) | {"psnr": self.psnr if math.isfinite(self.psnr) else None}


def best_match(
    original: np.ndarray, reconstructions: np.ndarray, *, low: float, high: float
) -> Likeness:
    """The reconstruction with the largest cosine.

    Args:
      original: as the model reads it; images (channels, height, width), tables (columns,).
      reconstructions: shape (r, *original.shape), r > 0.
      low: smallest value of an input.
      high: largest; values outside are cut for PSNR and SSIM.
    """
    if len(reconstructions) == 0 or reconstructions.shape[1:] != original.shape:
        raise ValueError(
            f"reconstructions of shape {reconstructions.shape} for an original of shape "
            f"{original.shape}; there must be one or more of the same shape."
        )
    cosines = [cosine(original, each) for each in reconstructions]
    index = int(np.argmax(cosines))
    ours, theirs = (
        (np.clip(np.asarray(value, np.float64), low, high) - low) / (high - low)
        for value in (original, reconstructions[index])
    )
    return Likeness(
        cosines[index],
        psnr(ours, theirs),
        ssim(ours, theirs) if original.ndim == 3 else None,
        index,
    )


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of the angle between two arrays; 0 where one is zero."""
    one, other = (np.asarray(value, np.float64).ravel() for value in (one, other))
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other / length) if length else 0.0


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio in decibels of values in [0, 1].

    >>> round(psnr(np.zeros(4), np.full(4, 0.1)), 6)
    20.0
    """
    error = float(np.mean(np.square(one - other)))
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Mean structural similarity over channels and pixels of images in [0, 1].

    Wang, Bovik, Sheikh, Simoncelli, Image Quality Assessment: From Error Visibility to Structural
    Similarity, IEEE TIP 2004, equation (13): Gaussian windows of 11 pixels with standard deviation
    1.5, K1 = 0.01, K2 = 0.03; borders are mirrored.

    Args:
      one: shape (channels, height, width).
      other: the same shape.
    """
    from scipy.ndimage import gaussian_filter

    def smooth(image):
        return gaussian_filter(image, (0, 1.5, 1.5), radius=(0, 5, 5))

    mean_1, mean_2 = smooth(one), smooth(other)
    variance_1 = smooth(one * one) - mean_1**2
    variance_2 = smooth(other * other) - mean_2**2
    covariance = smooth(one * other) - mean_1 * mean_2
    c_1, c_2 = 0.01**2, 0.03**2
    value = (2 * mean_1 * mean_2 + c_1) * (2 * covariance + c_2)
    value /= (mean_1**2 + mean_2**2 + c_1) * (variance_1 + variance_2 + c_2)
    return float(value.mean())
