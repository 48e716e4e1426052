"""Budgets of one's own: groups of persons with different epsilons in one training.

Boenisch et al., Have it your way: Individualized Privacy Assignment for DP-SGD, NeurIPS 2023
(https://arxiv.org/abs/2303.17046): *Sample* (algorithm 2) lets those who allow more take part more
often, *Scale* (algorithm 3) lets them count for more. In both the noise is the same for all, since
there is one sum, and each group's own event is charged to its own fingerprint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedcore.privacy.accounting import bound
from fedcore.privacy.calibration import PER_UNIT, calibrate
from fedcore.privacy.events import Neighbours, SampledGaussian

_PER_UNIT = 10**6  # rates are whole multiples of one in a million, rounded down


@dataclass(frozen=True)
class PersonalRates:
    """One noise, and how often each group takes part.

    Attributes:
      noise_multiplier: for all, of four decimals.
      sampling_rates: group -> probability that one of its records enters a step.
    """

    noise_multiplier: float
    sampling_rates: Mapping[str, float]


@dataclass(frozen=True)
class PersonalClips:
    """One noise, and how much each group's records may count.

    Attributes:
      noise_multiplier: for all, over the average norm bound, of four decimals.
      clip_norms: group -> norm bound of one of its records.
      noise_multipliers: group -> noise over that group's bound, what its event has.
    """

    noise_multiplier: float
    clip_norms: Mapping[str, float]
    noise_multipliers: Mapping[str, float]


def affordable_rate(
    epsilon: float,
    delta: float,
    noise_multiplier: float,
    steps: int,
    neighbours: Neighbours = "add_or_remove",
    *,
    near: float | None = None,
) -> float:
    """The largest sampling rate, of six decimals, that spends at most ``epsilon``; 0 if none.

    Args:
      near: where to look first; close to the rate it saves most of the time.
      epsilon, delta, noise_multiplier, steps, neighbours: as of
        :func:`fedcore.privacy.calibration.calibrate`.
    """

    def cost(rate):
        return bound([SampledGaussian(rate, noise_multiplier, steps)], delta, neighbours)

    def excess(log_rate):
        return math.log(min(max(cost(math.exp(log_rate)) / epsilon, 1e-9), 1e9))

    low = -math.log(_PER_UNIT)
    root = _root(excess, low, 0.0, math.log(near) if near else None, xtol=1e-5)
    units = max(1, math.floor(math.exp(root) * _PER_UNIT))
    while units and cost(units / _PER_UNIT) > epsilon:
        units -= 1
    return units / _PER_UNIT


def personal_rates(
    epsilons: Mapping[str, float],
    sizes: Mapping[str, int],
    delta: float,
    sample_rate: float,
    steps: int,
    neighbours: Neighbours = "add_or_remove",
) -> PersonalRates:
    """*Sample*: each group's rate for one noise, the expected batch being that of ``sample_rate``.

    Args:
      epsilons: group -> its budget.
      sizes: group -> records in it.
      delta: above 0, below 1, the same for all.
      sample_rate: expected batch over all records, above 0 and at most 1.
      steps: sums released.
      neighbours: which data sets must not be told apart.

    Returns:
      rates that spend at most each group's budget; over all records they average to ``sample_rate``
      or, by rounding, a little less.

    Raises:
      ValueError: the groups of budgets and sizes differ, or a value is out of its bounds.
    """
    _require_groups(epsilons, sizes)
    total = sum(sizes.values())
    # With the strictest group's noise everybody may take part so often, with the laxest one's
    # nobody may.
    noises = [calibrate(each, delta, sample_rate, steps, neighbours) for each in epsilons.values()]
    low, high = math.log(min(noises)), math.log(max(noises))

    # At its own noise a group's rate is that of all, and it grows with the noise about as fast.
    near = {group: (own, sample_rate) for group, own in zip(epsilons, noises, strict=True)}

    def rates(noise):
        found = {}
        for group, epsilon in epsilons.items():
            at, rate = near[group]
            guess = min(1.0, rate * noise / at)
            found[group] = affordable_rate(epsilon, delta, noise, steps, neighbours, near=guess)
            near[group] = (noise, found[group] or guess)
        return found

    def excess(log_noise):
        found = rates(math.exp(log_noise))
        mean = sum(sizes[group] * rate for group, rate in found.items()) / total
        return math.log(max(mean / sample_rate, 1e-9))

    if low == high:  # nobody allows more than others
        return PersonalRates(noises[0], dict.fromkeys(epsilons, sample_rate))
    root = _root(excess, low, high, (low + high) / 2, xtol=1e-4)
    noise = math.floor(math.exp(root) * PER_UNIT) / PER_UNIT
    return PersonalRates(noise, rates(noise))


def personal_clips(
    epsilons: Mapping[str, float],
    sizes: Mapping[str, int],
    delta: float,
    sample_rate: float,
    steps: int,
    clip_norm: float,
    neighbours: Neighbours = "add_or_remove",
) -> PersonalClips:
    """*Scale*: each group's norm bound for one noise, ``clip_norm`` being their average.

    Args, raises:
      as of :func:`personal_rates`; ``clip_norm`` is the average over records.
    """
    _require_groups(epsilons, sizes)
    noises = {
        group: calibrate(each, delta, sample_rate, steps, neighbours)
        for group, each in epsilons.items()
    }
    total = sum(sizes.values())
    average = total / sum(sizes[group] / noise for group, noise in noises.items())
    together = round(average * PER_UNIT) / PER_UNIT
    clips = {group: clip_norm * (together / noise) for group, noise in noises.items()}
    return PersonalClips(together, clips, noises)


def _root(
    increasing: Callable[[float], float], low: float, high: float, guess: float | None, xtol: float
) -> float:
    """Where an increasing function is 0; the end nearer to that where it is 0 nowhere between.

    By secants from the guess, the first of slope one, which is about what rates, noise and epsilon
    have to one another in logarithms; where they do not arrive, or without a guess, by brackets.
    """
    if guess is not None:
        before, step = guess, -increasing(guess)
        value = -step
        for _ in range(8):
            here = min(max(before + step, low), high)
            if abs(here - before) <= xtol:
                return here
            last, value = value, increasing(here)
            slope = (value - last) / (here - before)
            if slope <= 0:
                break
            before, step = here, -value / slope
    if increasing(high) <= 0:
        return high
    if increasing(low) >= 0:
        return low
    from scipy.optimize import brentq  # half a second that workers do not spend

    root: float = brentq(increasing, low, high, xtol=xtol)
    return root


def _require_groups(epsilons: Mapping[str, float], sizes: Mapping[str, int]) -> None:
    if not epsilons or set(epsilons) != set(sizes):
        raise ValueError(
            f"budgets are for the groups {sorted(epsilons)} and sizes for {sorted(sizes)}; each "
            "group needs both."
        )
    for group, size in sizes.items():
        if size < 1:
            raise ValueError(f"group {group!r} has {size} records; leave out empty groups.")
