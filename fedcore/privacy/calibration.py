"""The least noise that keeps a promise: from (epsilon, delta) to a noise multiplier."""

from __future__ import annotations

import math

from fedcore.privacy.accounting import bound
from fedcore.privacy.events import Neighbours, SampledGaussian

PER_UNIT = 10_000  # results are whole multiples of 1 / 10 000
_MOST = 1e6


def calibrate(
    epsilon: float,
    delta: float,
    sample_rate: float,
    steps: int,
    neighbours: Neighbours = "add_or_remove",
) -> float:
    """The smallest noise multiplier of four decimals that spends at most ``epsilon``.

    Four decimals, so that it can stand in a job key: a step of the grid changes epsilon by more
    than a million times what machines differ by.

    Args:
      epsilon: to be spent by all steps together, above 0.
      delta: above 0, below 1.
      sample_rate: probability that a record enters a step, above 0.
      steps: sums released.
      neighbours: which data sets must not be told apart.

    Raises:
      ValueError: a value is out of its bounds, or no noise up to a million is enough.

    >>> calibrate(3.0, 1e-5, sample_rate=1.0, steps=1)
    1.3907
    """
    from scipy.optimize import brentq

    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon={epsilon!r} must be above 0 and finite; no noise reaches 0.")
    if not sample_rate > 0:
        raise ValueError(
            f"sample_rate={sample_rate!r} must be above 0; nobody's data needs no noise."
        )

    def cost(noise):
        return bound([SampledGaussian(sample_rate, noise, steps)], delta, neighbours)

    def keeps(units):
        return cost(units / PER_UNIT) <= epsilon

    def excess(log_noise):  # bounded, for the root finder
        ratio = cost(math.exp(log_noise)) / epsilon
        return math.log(min(max(ratio, 1e-9), 1e9))

    guess = cost(1.0) / epsilon  # as if epsilon were inverse to the noise
    low = high = math.log(min(max(guess, 0.5), _MOST / 4))
    while excess(high) > 0:
        low, high = high, high + 0.7
        if high > math.log(_MOST):
            raise ValueError(
                f"epsilon={epsilon:g} at delta={delta:g} needs a noise multiplier above {_MOST:g} "
                f"with {steps} steps at rate {sample_rate:g}; allow more, or take fewer steps."
            )
    while excess(low) <= 0 and low > -math.log(PER_UNIT):
        low, high = low - 0.7, low
    root = brentq(excess, low, high, xtol=1e-6) if excess(low) > 0 else low
    units = max(1, math.ceil(math.exp(root) * PER_UNIT))
    while not keeps(units):
        units += 1
    while units > 1 and keeps(units - 1):
        units -= 1
    return units / PER_UNIT
