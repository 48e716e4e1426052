"""Which batch makes the most of a privacy budget: noise for each, and the one to take.

A step's noise, on the mean gradient, has standard deviation ``sigma / B`` in clip norms. With the
number of steps T fixed it falls as the batch B grows, and then no more: from some batch on, sigma
grows as B does, and only the work is more. The batch to take is where the ratio has flattened, as
far as compute allows. That batches should be far larger than without privacy, and that the ratio of
noise to batch at a given compute decides, is in De et al., Unlocking High-Accuracy Differentially
Private Image Classification through Scale, 2022 (https://arxiv.org/abs/2204.13650), and in
Ponomareva et al., How to DP-fy ML, JAIR 77, 2023 (https://arxiv.org/abs/2303.00654), on
hyper-parameters. Sander, Stock and Sablayrolles, TAN Without a Burn, ICML 2023
(https://arxiv.org/abs/2210.03403), say why it flattens: epsilon depends on the total noise
``sigma / (q sqrt(T))`` alone until sigma gets so small that the budget is overcharged. How many
steps a model needs no accountant knows: they are given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fedcore.privacy.accounting import Epsilon, epsilon
from fedcore.privacy.calibration import calibrate

ENOUGH = 0.9
"""Part of the signal of the whole data in each step that a batch should have: beyond it twice the
work gains less than a tenth."""

COMPUTE = 4.0
"""How much more work than now a suggestion may ask for, unless told."""


@dataclass(frozen=True)
class Candidate:
    """One batch with its noise.

    Attributes:
      batch: records (or clients) expected in a step.
      steps: in the whole run.
      sampling_rate: of one record in a step.
      noise_multiplier: the least that keeps the promise.
      signal: ``B / sigma`` over that of all records in each of as many steps; at most 1.
      compute: records that are processed, over those of the settings as they are.
      same_work: steps with which this batch is as much work as the settings as they are.
      same_work_noise: the noise multiplier then.
    """

    batch: int
    steps: int
    sampling_rate: float
    noise_multiplier: float
    signal: float
    compute: float
    same_work: int
    same_work_noise: float

    @property
    def step_noise(self) -> float:
        """Standard deviation of the noise on a coordinate of the mean gradient, in clip norms."""
        return self.noise_multiplier / self.batch

    @property
    def same_work_step_noise(self) -> float:
        """The same with as much work as now."""
        return self.same_work_noise / self.batch


@dataclass(frozen=True)
class Suggestion:
    """Candidates, rising, and the one to take.

    Attributes:
      epsilon, delta: promised.
      population: records of a client, or clients of the run.
      candidates: by batch.
      recommended: one of them.
      reason: why this one, in a sentence.
    """

    epsilon: float
    delta: float
    population: int
    candidates: tuple[Candidate, ...]
    recommended: Candidate
    reason: str


def suggest(
    epsilon: float,
    delta: float,
    population: int,
    batch: int,
    steps: int,
    *,
    batches: Iterable[int] | None = None,
    compute: float = COMPUTE,
) -> Suggestion:
    """The noise that each batch needs for a promise, and the batch to take.

    It is the smallest of at most ``compute`` times the work that has nine tenths of the signal of
    all records in each step; where none has, the largest of them.

    Args:
      epsilon, delta: what the whole run may tell.
      population: records that are sampled from.
      batch: expected in a step now, at most ``population``.
      steps: in the whole run.
      batches: candidates; by default halves and doubles of ``batch``.
      compute: work that is allowed, as a multiple of now; at least 1.

    Raises:
      ValueError: a value is out of its bounds, or no noise keeps the promise.

    >>> suggest(1.0, 1e-5, population=6000, batch=75, steps=160).recommended.batch
    300
    """
    if population < 1 or not 1 <= batch <= population:
        raise ValueError(
            f"batch={batch} must be from 1 to population={population}: a step cannot expect more "
            "records than there are. Lower it."
        )
    if not compute >= 1:
        raise ValueError(f"compute={compute:g} must be at least 1: that is the work of now.")
    sizes = {batch, *(_around(batch, population) if batches is None else batches)}
    full = calibrate(epsilon, delta, 1.0, steps)
    candidates = tuple(
        _candidate(size, epsilon, delta, population, batch, steps, population / full)
        for size in sorted(size for size in sizes if 1 <= size <= population)
    )
    affordable = [one for one in candidates if one.compute <= compute]
    enough = [one for one in affordable if one.signal >= ENOUGH]
    taken = enough[0] if enough else affordable[-1]
    return Suggestion(
        epsilon, delta, population, candidates, taken, _reason(taken, batch, bool(enough), compute)
    )


def smallest_epsilon(
    noise_multiplier: float, delta: float, population: int, batch: int, steps: int
) -> Epsilon:
    """What a wanted noise multiplier can promise at best.

    Args:
      noise_multiplier: above 0; 0 promises nothing and gives infinity.
      delta, population, batch, steps: as in :func:`suggest`.

    >>> round(smallest_epsilon(1.0, 1e-5, 6000, 300, 160).value, 2)
    4.3
    """
    return epsilon(min(1.0, batch / population), noise_multiplier, steps, delta)


def _around(batch: int, population: int) -> set[int]:
    """The batch, halved three times, and doubled until all records are in it."""
    found = {population, *(max(1, batch >> halved) for halved in range(4))}
    while batch < population:
        found.add(batch)
        batch *= 2
    return found


def _candidate(
    size: int, epsilon: float, delta: float, population: int, batch: int, steps: int, most: float
) -> Candidate:
    rate, same_work = size / population, max(1, round(steps * batch / size))
    noise = calibrate(epsilon, delta, rate, steps)
    return Candidate(
        batch=size,
        steps=steps,
        sampling_rate=rate,
        noise_multiplier=noise,
        signal=size / noise / most,
        compute=size / batch,
        same_work=same_work,
        same_work_noise=calibrate(epsilon, delta, rate, same_work),
    )


def _reason(taken: Candidate, batch: int, is_enough: bool, compute: float) -> str:
    signal, times = f"{taken.signal:.0%}", f"{taken.compute:.3g} times the work"
    if not is_enough:
        return (
            f"with {signal} of the signal of all records in each step it is the largest within "
            f"{compute:g} times the work; a larger one would be less noisy still."
        )
    if taken.batch == batch:
        return (
            f"it has {signal} of the signal of all records in each step already, and a smaller one "
            f"less than {ENOUGH:.0%}: more work gains little."
        )
    return (
        f"it is the smallest with {ENOUGH:.0%} of the signal of all records in each step "
        f"({signal}), for {times}; a larger one gains little."
    )
