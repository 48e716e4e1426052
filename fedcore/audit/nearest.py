"""The nearest of many 64-bit hashes within a few bits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

_BLOCK = 1 << 21  # pairs that are compared at once; fits the cache of a core


def nearest_within(
    haystack: np.ndarray, needles: np.ndarray, threshold: int
) -> tuple[np.ndarray, np.ndarray]:
    """For each needle the nearest hash of the haystack, if it is within ``threshold`` bits.

    Two hashes within t bits agree in at least one of t + 1 disjoint bands of bits (Norouzi et al.,
    Fast Exact Search in Hamming Space with Multi-Index Hashing, TPAMI 2014, proposition 1), so
    only pairs that share a band are compared; all pairs where bands are so crowded that this
    would be slower.

    Args:
      haystack: (n,) uint64.
      needles: (m,) uint64.
      threshold: bits, 0 to 63.

    Returns:
      (m,) int64 index into the haystack (the first of the nearest), -1 where none is near enough,
      and (m,) int64 distance in bits (65 where none).

    >>> nearest_within(np.array([0, 7], np.uint64), np.array([1, 255], np.uint64), 1)
    (array([ 0, -1]), array([ 1, 65]))
    """
    if not 0 <= threshold < 64:
        raise ValueError(f"threshold={threshold}: a number of bits from 0 to 63.")
    hay, first = np.unique(haystack, return_index=True)
    pins, back = np.unique(needles, return_inverse=True)
    if len(hay) == 0 or len(pins) == 0:
        return np.full(len(needles), -1), np.full(len(needles), 65)
    # Packed as distance * 2^32 + index into the haystack: the minimum is the nearest, then first.
    best = np.full(len(pins), 65 << 32, dtype=np.int64)
    bands = [_band(hay, pins, low, high) for low, high in _edges(threshold + 1)]
    candidates = sum(int((ends - starts).sum()) for _, starts, ends in bands)
    # A candidate of a band costs about twenty times as much as a pair of the plain product.
    if candidates * 20 < len(hay) * len(pins):
        for order, starts, ends in bands:
            _compare_bands(hay, first, pins, order, starts, ends, best)
    else:
        _compare_all(hay, first, pins, best)
    best[(best >> 32) > threshold] = 65 << 32
    distance = (best >> 32)[back.reshape(-1)]
    index = (best & 0xFFFFFFFF)[back.reshape(-1)]
    return np.where(distance > threshold, -1, index), distance


def _edges(bands: int) -> list[tuple[int, int]]:
    """[low, high) bits of each of ``bands`` bands that cover all 64."""
    cuts = np.linspace(0, 64, bands + 1).round().astype(int)
    return [(int(low), int(high)) for low, high in pairwise(cuts)]


def _band(
    hay: np.ndarray, pins: np.ndarray, low: int, high: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The haystack's order by one band, and each needle's first and last place in it."""
    mask = np.uint64(((1 << (high - low)) - 1) << low)
    keys = hay & mask
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    return (
        order,
        np.searchsorted(keys, pins & mask, "left"),
        np.searchsorted(keys, pins & mask, "right"),
    )


def _compare_bands(
    hay: np.ndarray,
    first: np.ndarray,
    pins: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    best: np.ndarray,
) -> None:
    """Lower ``best`` by the pairs that agree in one band."""
    counts = ends - starts
    total = np.cumsum(counts)
    begin = 0
    while begin < len(pins):
        # As many needles as make one block of pairs, at least one.
        done = int(total[begin - 1]) if begin else 0
        end = max(int(np.searchsorted(total, done + _BLOCK, "right")), begin + 1)
        size = counts[begin:end]
        pin = np.repeat(np.arange(begin, end), size)
        within = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
        place = order[np.repeat(starts[begin:end], size) + within]
        distance = np.bitwise_count(hay[place] ^ pins[pin]).astype(np.int64)
        np.minimum.at(best, pin, (distance << 32) | first[place])
        begin = end


def _compare_all(hay: np.ndarray, first: np.ndarray, pins: np.ndarray, best: np.ndarray) -> None:
    """Lower ``best`` by all pairs."""
    # In the haystack's own order, so that argmin finds the first of the nearest.
    order = np.argsort(first)
    hay, first = hay[order], first[order]
    step = max(1, _BLOCK // len(hay))
    for begin in range(0, len(pins), step):
        distance = np.bitwise_count(pins[begin : begin + step, None] ^ hay[None])
        at = distance.argmin(axis=1)
        nearest = distance[np.arange(len(at)), at].astype(np.int64)
        best[begin : begin + step] = (nearest << 32) | first[at]
