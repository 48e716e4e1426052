"""What events cost: epsilon at a delta, by two independent bounds.

Both bounds are computed here rather than by a library: Opacus' PRV accountant looks at the removal
of a record only, knows no ``replace_one``, takes 0.2 to 7 s where a ledger may take 0.2, and costs
5 s of import; ``dp-accounting`` asks for an ``attrs`` older than ours, and takes 0.2 to 5 s. The
tests hold every number against both.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import get_args

from fedcore.privacy.dominating import Pair
from fedcore.privacy.events import Neighbours, SampledGaussian
from fedcore.privacy.prv import composed_epsilon
from fedcore.privacy.rdp import renyi_epsilon


@dataclass(frozen=True)
class Epsilon:
    """Two upper bounds of the same epsilon.

    Attributes:
      rdp: by Renyi divergences.
      prv: by the composed distribution of the privacy loss; tight to about 0.1 %.
    """

    rdp: float
    prv: float

    @property
    def value(self) -> float:
        """The smaller one: both hold."""
        return min(self.rdp, self.prv)


NOTHING = Epsilon(0.0, 0.0)
_Steps = tuple[tuple[tuple[float, float], int], ...]  # ((rate, noise), steps)


def spent(
    events: Iterable[SampledGaussian], delta: float, neighbours: Neighbours = "add_or_remove"
) -> Epsilon:
    """The epsilon of all events together at ``delta``, in any order.

    Args:
      events: of the same data; those with equal rate and noise are one with their steps added.
      delta: probability left out of the promise, above 0 and below 1; well under 1 / records.
      neighbours: which data sets must not be told apart.

    Returns:
      infinity, by both bounds, when some event adds no noise.

    Raises:
      ValueError: ``delta`` or ``neighbours`` is none.

    >>> round(spent([SampledGaussian(0.01, 1.0, 100)], 1e-5).value, 2)
    0.72
    """
    steps = _merged(events, delta, neighbours)
    return Epsilon(_by_rdp(steps, delta, neighbours), _by_prv(steps, delta, neighbours))


def epsilon(sample_rate: float, noise_multiplier: float, steps: int, delta: float) -> Epsilon:
    """The epsilon of ``steps`` Poisson-sampled Gaussian sums, one record more or less.

    Args:
      sample_rate: probability that a record enters a step.
      noise_multiplier: standard deviation of the noise over the norm bound.
      steps: sums released.
      delta: as in :func:`spent`.
    """
    return spent([SampledGaussian(sample_rate, noise_multiplier, steps)], delta)


def over_disjoint(epsilons: Iterable[Epsilon]) -> Epsilon:
    """The epsilon of several owners' data together when nobody has records at two of them.

    The largest, at the same delta (McSherry 2009, theorem 4): never the sum, never the mean. It
    says nothing about a person with records at several owners: theirs add up.

    >>> over_disjoint([Epsilon(2.2, 2.0), Epsilon(1.1, 1.0)])
    Epsilon(rdp=2.2, prv=2.0)
    """
    return max(epsilons, key=lambda each: each.value, default=NOTHING)


def bound(
    events: Iterable[SampledGaussian], delta: float, neighbours: Neighbours = "add_or_remove"
) -> float:
    """The tight bound alone, or the other where it gives none: for a search over many events."""
    steps = _merged(events, delta, neighbours)
    tight = _by_prv(steps, delta, neighbours)
    return tight if tight < math.inf else _by_rdp(steps, delta, neighbours)


def _merged(events: Iterable[SampledGaussian], delta: float, neighbours: str) -> _Steps:
    """Equal events as one, in an order of their own."""
    if not 0 < delta < 1:
        raise ValueError(f"delta={delta!r} must be above 0 and below 1; take at most 1 / records.")
    if neighbours not in get_args(Neighbours):
        raise ValueError(
            f"neighbours={neighbours!r} must be one of {', '.join(get_args(Neighbours))}."
        )
    steps: Counter[tuple[float, float]] = Counter()
    for event in events:
        if event.sampling_rate > 0:
            steps[float(event.sampling_rate), float(event.noise_multiplier)] += event.steps
    return tuple(sorted(_with_one_gaussian(steps).items()))


def _with_one_gaussian(steps: Mapping[tuple[float, float], int]) -> dict[tuple[float, float], int]:
    """Different Gaussians without sampling as one: their shifts over sigma add up in squares."""
    plain = {noise: count for (rate, noise), count in steps.items() if rate == 1 and noise > 0}
    if len(plain) < 2:
        return dict(steps)
    left = {key: count for key, count in steps.items() if key[0] < 1 or key[1] == 0}
    together = math.fsum(count / noise**2 for noise, count in plain.items()) ** -0.5
    return {**left, (1.0, together): 1}


@lru_cache(maxsize=4096)
def _by_prv(steps: _Steps, delta: float, neighbours: Neighbours) -> float:
    if (known := _without_computing(steps)) is not None:
        return known
    return max(
        composed_epsilon(_pairs(steps, neighbours), delta, is_added=is_added)
        for is_added in _directions(steps, neighbours)
    )


@lru_cache(maxsize=4096)
def _by_rdp(steps: _Steps, delta: float, neighbours: Neighbours) -> float:
    if (known := _without_computing(steps)) is not None:
        return known
    return max(
        renyi_epsilon(_pairs(steps, neighbours), delta, is_added=is_added)[0]
        for is_added in _directions(steps, neighbours)
    )


def _without_computing(steps: _Steps) -> float | None:
    if any(noise == 0 for (_, noise), _ in steps):
        return math.inf
    return None if steps else 0.0


def _directions(steps: _Steps, neighbours: Neighbours) -> tuple[bool, ...]:
    """Removing and adding a record; one is enough where they are mirror images."""
    is_one = neighbours == "replace_one" or all(rate == 1 for (rate, _), _ in steps)
    return (False,) if is_one else (False, True)


def _pairs(steps: _Steps, neighbours: Neighbours) -> list[tuple[Pair, int]]:
    is_replaced = neighbours == "replace_one"
    return [(Pair(rate, noise, is_replaced), count) for (rate, noise), count in steps]
