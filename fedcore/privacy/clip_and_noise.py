"""What a site's gate does to a change of weights: scale it down to a norm, then add noise."""

from __future__ import annotations

import math

import numpy as np

from fedcore.privacy.secret_stream import SecretStream
from fedcore.tensors import Arrays


def l2_norm(arrays: Arrays) -> float:
    """L2 norm over all tensors, in float64: sums of squares of each, in the order of names.

    >>> l2_norm({"a": np.array([3.0], np.float32), "b": np.array([[4.0]], np.float32)})
    5.0
    """
    with np.errstate(over="ignore"):  # infinite then
        squares = [
            float(np.square(arrays[name].astype(np.float64)).sum()) for name in sorted(arrays)
        ]
    return math.sqrt(math.fsum(squares))


def clipped(arrays: Arrays, clip_norm: float) -> dict[str, np.ndarray]:
    """``arrays`` times ``min(1, clip_norm / norm)``; as they are when the norm is small enough.

    The factor is computed in float64 and rounded to float32, each product is rounded to its
    tensor's dtype, and a result still longer than ``clip_norm`` by that rounding is scaled by the
    next smaller factors until ``l2_norm(result) <= clip_norm`` holds exactly.

    Args:
      arrays: floating-point tensors, finite.

    Raises:
      ValueError: their norm is too large for a factor in float32.
    """
    norm = l2_norm(arrays)
    if norm <= clip_norm:
        return dict(arrays)
    factor = np.float32(clip_norm / norm)
    if factor < np.finfo(np.float32).tiny:
        raise ValueError(f"clip_norm={clip_norm:g} is too far below the norm; training diverged.")
    while True:
        scaled = {
            name: (value * factor).astype(value.dtype, copy=False) for name, value in arrays.items()
        }
        if l2_norm(scaled) <= clip_norm:
            return scaled
        factor = np.float32(factor * np.float32(1 - 2.0**-22))


def noised(arrays: Arrays, stddev: float, stream: SecretStream) -> dict[str, np.ndarray]:
    """``arrays`` plus independent Gaussian noise, in float64, each sum rounded to its dtype once.

    Args:
      stddev: of the noise on each element.
      stream: drawn from in the order of names.
    """
    return {
        name: (
            arrays[name].astype(np.float64)
            + stddev * stream.normal(arrays[name].size).reshape(arrays[name].shape)
        ).astype(arrays[name].dtype)
        for name in sorted(arrays)
    }
