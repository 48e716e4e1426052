"""A grid's runs by epsilon: means over seeds, what was lost against the reference, intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedcore.evaluation import HIGHER_IS_BETTER
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.together import told_together
from fedcore.report.bootstrap import Interval
from fedcore.report.student import student_interval
from fedcore.trade_off.measured import Measured
from fedcore.trade_off.settings import GridSettings


@dataclass(frozen=True)
class Line:
    """All seeds of one epsilon, at the learning rate that was best for it.

    Attributes:
      epsilon: asked for; None: the reference.
      learning_rate: that is shown, or None where one was tried.
      seeds: seed -> score.
      score: mean over seeds with Student's interval.
      lost: mean over seeds of how much worse each is than the reference with the same seed; None
        without a reference.
      rdp, prv: the most that a run has told, by both bounds; None without privacy.
      noise_multipliers: the least and the most of all clients' and runs'; empty without noise.
    """

    epsilon: float | None
    learning_rate: float | None
    seeds: Mapping[int, float]
    score: Interval
    lost: Interval | None
    rdp: float | None
    prv: float | None
    noise_multipliers: tuple[float, ...]


@dataclass(frozen=True)
class TradeOff:
    """What a grid's runs say.

    Attributes:
      metric, split: what is compared, where it was measured.
      reference: the runs without privacy or noise, or None.
      lines: one per epsilon, rising.
      delta: chance that each promise fails.
      chosen_on: split by which learning rates were chosen; empty where one was tried.
      private_runs: with noise from an owner's own secret, all rates counted.
      told: epsilon of all those together, for whoever has seen all their results.
      failures: name -> why, of runs that have no score.
    """

    metric: str
    split: str
    reference: Line | None
    lines: tuple[Line, ...]
    delta: float
    chosen_on: str
    private_runs: int
    told: float
    failures: Mapping[str, str]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those of all lines, rising."""
        every = [*self.lines, *([self.reference] if self.reference else [])]
        return tuple(sorted({seed for line in every for seed in line.seeds}))


def summarise_grid(measured: Iterable[Measured], grid: GridSettings, delta: float) -> TradeOff:
    """The trade-off by what was measured so far; an epsilon without a finished run has no line.

    Of several learning rates the one with the best mean is taken: on validation data where they
    were measured, else on the split that is shown; one that failed with some seed is none of them
    where another did not.

    Raises:
      ValueError: the metric was not measured.
    """
    every = list(measured)
    runs = [one for one in every if not one.failure]
    rates = {(one.epsilon is None, one.learning_rate) for one in runs}
    on = ""
    if len(rates) > len({is_reference for is_reference, _ in rates}):
        on = "val" if all(grid.metric in one.scores.get("val", {}) for one in runs) else grid.split
    by_epsilon = {
        epsilon: _best([one for one in runs if one.epsilon == epsilon], on or grid.split, grid)
        for epsilon in {one.epsilon for one in runs}
    }
    reference = by_epsilon.pop(None, None)
    without = {one.seed: one.score(grid.split, grid.metric) for one in reference or ()}
    private = [one for one in every if one.is_private]
    told = told_together(
        (
            {c: [SampledGaussian.from_json(e) for e in each] for c, each in one.events.items()}
            for one in private
        ),
        delta,
    )
    return TradeOff(
        grid.metric,
        grid.split,
        _line(reference, grid, {}) if reference else None,
        tuple(_line(runs, grid, without) for _, runs in sorted(by_epsilon.items(), key=_asked)),
        delta,
        on,
        len(private),
        told if private else 0.0,
        {one.name: one.failure for one in every if one.failure},
    )


def _asked(item: tuple[float | None, object]) -> float:
    return item[0] or 0.0


def _best(runs: Sequence[Measured], split: str, grid: GridSettings) -> list[Measured]:
    """The runs at the learning rate with the best mean; the first of equals."""
    sign = 1 if HIGHER_IS_BETTER[grid.metric] else -1
    by_rate: dict[float | None, list[Measured]] = {}
    for one in runs:
        by_rate.setdefault(one.learning_rate, []).append(one)
    complete = max(len(each) for each in by_rate.values())  # the last seed may be under way
    return max(
        (each for each in by_rate.values() if len(each) == complete),
        key=lambda each: sign * float(np.mean([one.score(split, grid.metric) for one in each])),
    )


def _line(runs: Sequence[Measured], grid: GridSettings, without: Mapping[int, float]) -> Line:
    sign = 1 if HIGHER_IS_BETTER[grid.metric] else -1
    seeds = {one.seed: one.score(grid.split, grid.metric) for one in runs}
    lost = [sign * (without[seed] - score) for seed, score in seeds.items() if seed in without]
    noises = sorted({noise for one in runs for noise in one.noise_multipliers})
    return Line(
        epsilon=runs[0].epsilon,
        learning_rate=runs[0].learning_rate,
        seeds=seeds,
        score=student_interval(list(seeds.values()), level=grid.confidence),
        lost=student_interval(lost, level=grid.confidence) if lost else None,
        rdp=max((one.rdp for one in runs if one.rdp is not None), default=None),
        prv=max((one.prv for one in runs if one.prv is not None), default=None),
        noise_multipliers=(noises[0], noises[-1]) if noises else (),
    )
