"""Epsilon from the distribution of the privacy loss, composed by FFT: tight, and never too small.

The losses of a step are put on a grid so that only larger divergences result (Doroshenko et al.,
Connect the Dots, PETS 2022, https://arxiv.org/abs/2207.04380, section 3); sums over steps are
powers in the frequency domain (Koskela, Jaelkoe and Honkela 2020; Gopi, Lee and Wutschitz 2021,
https://arxiv.org/abs/2106.02848, whose name for a loss, privacy loss random variable, is kept). The
distribution is tilted towards the epsilon sought before it is transformed, so that rounding is
relative to delta and not to 1. What is cut off and what the transform may round is added to delta.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedcore.privacy.dominating import Pair
from fedcore.privacy.rdp import log_sum_exp, renyi_epsilon

# A grid of 1/20 of a step's standard deviation adds 1/2400 of its variance; sums of few steps are
# less smooth and get a finer one.
_FINENESS = 0.05
_FINEST = 0.01
_MOST_POINTS = 2**17  # of one step
_MOST_STEPS_APART = 2**15  # points in the standard deviation of the sum
_MOST_SIZE = 2**23  # of the transform
_CUT = 1e-6  # of delta, for losses too large for the grid
_OUTSIDE = 1e-7  # of delta, for ends of the tilted distribution outside the window
_ROUNDING = 1e-15  # of the transform, in the tilted distribution, for a step
_ASIDE = np.geomspace(0.02, 1.28, 7)


@dataclass(frozen=True)
class _Losses:
    """One step's losses: ``mass[i]`` at ``(first + i) * width``, ``infinite`` beyond all."""

    first: int
    mass: np.ndarray
    infinite: float


def composed_epsilon(
    pairs: Sequence[tuple[Pair, int]], delta: float, *, is_added: bool = False
) -> float:
    """The epsilon of all pairs' compositions in one direction: P against Q, or Q against P.

    Args:
      pairs: each with the number of its steps.
      delta: above 0, below 1.
      is_added: Q against P.

    Returns:
      not negative; 0 when delta alone covers everything; inf when the losses are spread too widely
      for a grid (next to no noise, or a delta near the smallest float).
    """
    # Here: a worker that only trains would import SciPy for nothing, a fifth of its start.
    from scipy.fft import irfft, next_fast_len, rfft
    from scipy.special import ndtri_exp, softmax

    steps = sum(count for _, count in pairs)
    spread = math.sqrt(sum(count * pair.variance() for pair, count in pairs) / steps)
    reach = -float(ndtri_exp(math.log(_CUT / steps) + math.log(delta)))
    ends = [_ends(pair, reach) for pair, _ in pairs]
    width = max(
        spread * min(_FINENESS, _FINEST * (1 + math.sqrt(steps))),
        spread * math.sqrt(steps) / _MOST_STEPS_APART,
        max(float(end[1] - end[0]) for end in ends) / _MOST_POINTS,
    )
    losses = [
        (_discretised(pair, end, width, is_added), count)
        for (pair, count), end in zip(pairs, ends, strict=True)
    ]
    log_delta = math.log(delta)
    # Adding a record makes nothing more likely than 1 / (1 - q) times.
    ceiling = -sum(
        count * math.log1p(-pair.q) if is_added and pair.q < 1 else -math.inf
        for pair, count in pairs
    )
    infinite = sum(each.infinite * count for each, count in losses) / delta

    # The distribution is tilted by the order that is best for its Renyi divergences less 1; chords
    # of K(t), the logarithm of the sum's moments, bound both of its tails (Chernoff).
    renyi, order = renyi_epsilon(pairs, delta, is_added=is_added)
    tilt = order - 1
    aside = np.concatenate([-_ASIDE, [0.0], _ASIDE]) * tilt
    around = np.zeros(len(aside))
    for each, count in losses:
        around += count * _log_moments(each, tilt + aside, width)
    moment = around[len(_ASIDE)]
    # At epsilon the untilted distribution is the tilted one times this many deltas, or fewer.
    log_weight = moment - tilt * renyi - log_delta
    slack = _OUTSIDE * math.exp(-max(0.0, log_weight)) + _ROUNDING * (100 + steps)
    rises = around - moment - math.log(_OUTSIDE / 4) + max(0.0, log_weight)
    low = np.max(rises[aside < 0] / aside[aside < 0])
    high = np.min(rises[aside > 0] / aside[aside > 0])
    least = sum(count * each.first for each, count in losses)
    most = sum(count * (each.first + len(each.mass)) for each, count in losses)
    start = max(math.floor(low / width), least)
    size = max(2, min(math.ceil(high / width), most) - start + 1)
    if size > _MOST_SIZE:
        return ceiling
    size = next_fast_len(size, real=True)

    spectrum = np.ones(size // 2 + 1, complex)
    for each, count in losses:
        tilted = softmax(_log(each.mass) + tilt * _grid(each, width))
        where = (each.first + np.arange(len(each.mass))) % size
        spectrum *= rfft(np.bincount(where, tilted, size)) ** count
    mass = np.roll(irfft(spectrum, size), -(start % size)).clip(0)

    # In units of delta, at offsets from `top`, where the weight exp(K - t s) is delta itself.
    top = (moment - log_delta) / tilt
    sums = width * (start + np.arange(size))
    offset = sums - top
    weight = np.exp(np.minimum(-tilt * offset, 700))
    with np.errstate(over="ignore", invalid="ignore"):
        over = np.cumsum((mass * weight)[::-1])[::-1]
        scaled = np.cumsum((mass * weight * np.exp(-offset))[::-1])[::-1]
        spent = over - np.exp(offset) * scaled
    # A loss counts fully where exp(-offset) overflows: hundreds below `top`, epsilon in thousands.
    spent = np.where(np.isfinite(scaled), spent, over) + slack * weight + infinite
    fits = np.flatnonzero(spent <= 1)
    if len(fits) == 0:
        return ceiling
    index = int(fits[0])
    allowed = 1 - infinite - slack * weight[max(index - 1, 0)]
    if index == 0 or over[index] <= allowed or not 0 < scaled[index] < math.inf:
        return max(0.0, min(ceiling, float(sums[index])))
    between = top + math.log(over[index] - allowed) - math.log(scaled[index])
    return max(0.0, min(ceiling, float(np.clip(between, sums[index - 1], sums[index]))))


def _ends(pair: Pair, reach: float) -> np.ndarray:
    """Losses (lowest, highest) within ``reach`` standard deviations of every component."""
    lowest = -1.0 if pair.is_replaced else 0.0
    return pair.loss(np.array([lowest - reach * pair.sigma, 1 + reach * pair.sigma]))


def _discretised(pair: Pair, ends: np.ndarray, width: float, is_added: bool) -> _Losses:
    """Each interval's mass moved to its ends so that both P's and Q's are kept."""
    first, last = math.floor(ends[0] / width), math.ceil(ends[1] / width)
    edges = width * np.arange(first, last + 1)
    outcomes = np.concatenate([[-np.inf], pair.outcome(edges), [np.inf]])
    log_p, log_q = pair.log_masses(outcomes)
    if is_added:
        log_p, log_q, edges, first = log_q[::-1], log_p[::-1], -edges[::-1], -last
    mass = np.exp(log_p)
    with np.errstate(invalid="ignore", over="ignore"):
        share = np.expm1(log_q[1:-1] + edges[:-1] - log_p[1:-1]) / math.expm1(-width)
    up = mass[1:-1] * np.nan_to_num(share, nan=1.0).clip(0, 1)
    points = np.zeros(len(edges))
    points[1:] += up
    points[:-1] += mass[1:-1] - up
    points[0] += mass[0]
    return _Losses(first, points, float(mass[-1]))


def _grid(losses: _Losses, width: float) -> np.ndarray:
    return width * (losses.first + np.arange(len(losses.mass)))


def _log_moments(losses: _Losses, tilts: np.ndarray, width: float) -> np.ndarray:
    log_mass, grid = _log(losses.mass), _grid(losses, width)
    return np.array([log_sum_exp(log_mass + tilt * grid) for tilt in tilts])


def _log(mass: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(mass)
