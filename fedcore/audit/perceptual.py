"""The perceptual hash of images: the signs of their low frequencies.

The algorithm and the bits of ``imagehash.phash`` (Buchner, ImageHash 4.3; Zauner, Implementation
and Benchmarking of Perceptual Image Hash Functions, 2010), computed for all images at once: grey,
32 x 32 pixels by Pillow's Lanczos filter, cosine transform, the lowest 8 x 8 frequencies compared
with their median.
"""

from __future__ import annotations

import numpy as np

SIDE, LOW = 32, 8  # hash_size 8 and highfreq_factor 4 of imagehash
_PRECISION = 22  # bits of Pillow's fixed-point filter weights (Resample.c, 8 bits per channel)
_CHUNK = 4096


def has_perceptual_hash(inputs: np.ndarray) -> bool:
    """Whether these are images that :func:`perceptual_hash` takes."""
    return inputs.ndim == 4 and inputs.dtype == np.uint8 and inputs.shape[3] in (1, 3)


def perceptual_hash(images: np.ndarray) -> np.ndarray:
    """64-bit hash of each image; images that look alike differ in few bits.

    Args:
      images: (n, height, width, channels) uint8 with 1 (grey) or 3 (red, green, blue) channels.

    Returns:
      (n,) uint64; the first bit is the lowest frequency, as in ``str(imagehash.phash(image))``.
    """
    if not has_perceptual_hash(images):
        raise ValueError(
            f"images of shape {images.shape} and type {images.dtype}: a perceptual hash needs "
            "(n, height, width, 1 or 3) uint8."
        )
    across = _lanczos(images.shape[2])
    down = _lanczos(images.shape[1])
    cosine = 2.0 * np.cos(np.pi * np.outer(np.arange(LOW), 2 * np.arange(SIDE) + 1) / (2 * SIDE))
    hashes = np.empty(len(images), dtype=np.uint64)
    for start in range(0, len(images), _CHUNK):
        grey = _grey(images[start : start + _CHUNK])
        # Each pass rounds to whole numbers; Pillow 13 first shrinks the longer side.
        if images.shape[1] > images.shape[2]:
            small = _fixed_point(_turned(_fixed_point(_turned(grey), down)), across)
        else:
            small = _turned(_fixed_point(_turned(_fixed_point(grey, across)), down))
        low = cosine @ small @ cosine.T
        # Rounded, so that an exact zero is zero on every machine.
        low = np.round(low.reshape(len(low), LOW * LOW), 6)
        bits = low > np.median(low, axis=1, keepdims=True)
        packed = np.packbits(bits, axis=1).view(">u8").reshape(-1)
        hashes[start : start + len(low)] = packed.astype(np.uint64)
    return hashes


def _grey(images: np.ndarray) -> np.ndarray:
    """(n, h, w) float64 whole numbers: luma of ITU-R 601-2 in Pillow's 16-bit arithmetic."""
    if images.shape[3] == 1:
        return images[..., 0].astype(np.float64)
    red, green, blue = (images[..., channel].astype(np.int64) for channel in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.float64)


def _turned(images: np.ndarray) -> np.ndarray:
    """Rows and columns exchanged."""
    return np.swapaxes(images, 1, 2)


def _fixed_point(pixels: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """(n, a, 32) whole numbers 0 to 255: the last axis of (n, a, size) resampled as Pillow does.

    Products of 8-bit pixels and 22-bit weights are exact in float64.
    """
    if weights is None:
        return pixels
    half = float(1 << (_PRECISION - 1))
    return np.clip(np.floor((pixels @ weights + half) / (1 << _PRECISION)), 0, 255)


def _lanczos(size: int) -> np.ndarray | None:
    """(size, 32) fixed-point weights of a Lanczos filter with three lobes; None: nothing to do."""
    if size == SIDE:
        return None
    scale = size / SIDE
    stretch = max(scale, 1.0)
    weights = np.zeros((size, SIDE))
    for out in range(SIDE):
        centre = (out + 0.5) * scale
        first = max(int(centre - 3.0 * stretch + 0.5), 0)
        last = min(int(centre + 3.0 * stretch + 0.5), size)
        at = (np.arange(first, last) - centre + 0.5) / stretch
        lobes = np.where((at >= -3.0) & (at < 3.0), np.sinc(at) * np.sinc(at / 3.0), 0.0)
        scaled = lobes / lobes.sum() * (1 << _PRECISION)
        weights[first:last, out] = np.trunc(scaled + np.where(scaled < 0, -0.5, 0.5))
    return weights
