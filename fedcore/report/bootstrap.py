"""Bootstrap percentile intervals of a metric, and of the difference of two models on the same data.

Efron and Tibshirani, An Introduction to the Bootstrap, Chapman and Hall 1993: section 13.3
(percentile interval) and section 8.3 (resampling the observed unit: here one sample with everything
that both models said about it). A resample is given by how often it drew each sample, which lets a
metric sort its scores once for all resamples (:mod:`fedcore.report.weighted`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Statistic = Callable[[np.ndarray], float]
"""``statistic(counts)``: the metric of data in which row i stands ``counts[i]`` times; counts (n,)
int64. NaN where it is undefined."""


@dataclass(frozen=True)
class Interval:
    """A percentile interval around an estimate.

    Attributes:
      estimate: the value on the data as they are.
      low: lower end.
      high: upper end.
      level: nominal coverage, e.g. 0.95.
      undefined: resamples on which the metric was undefined (one class only) and that do not count.
    """

    estimate: float
    low: float
    high: float
    level: float
    undefined: int = 0

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside: the only ground on which a difference may be claimed."""
        return self.low > 0.0 or self.high < 0.0

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_interval(
    statistic: Statistic,
    num_examples: int,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    num_resamples: int = 1000,
    strata: np.ndarray | None = None,
) -> Interval:
    """The percentile interval of ``statistic`` over samples.

    Args:
      statistic: see ``Statistic``.
      num_examples: n, at least 1.
      rng: the only source of chance.
      level: nominal coverage, above 0 and below 1.
      num_resamples: at least 100.
      strata: (n,) keys; each is resampled by itself and keeps its size (a client's share, a class).

    Raises:
      ValueError: bad arguments, or a metric that is undefined on the data or on most resamples.

    >>> right = np.array([1.0] * 80 + [0.0] * 20)
    >>> accuracy = lambda counts: counts @ right / counts.sum()
    >>> print(bootstrap_interval(accuracy, 100, rng=np.random.default_rng(0)))
    0.800 [0.720, 0.880]
    """
    if num_examples < 1:
        raise ValueError(f"num_examples={num_examples}: a bootstrap needs at least one sample.")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level={level} must lie between 0 and 1, e.g. 0.95.")
    if num_resamples < 100:
        raise ValueError(f"num_resamples={num_resamples} is too few for a tail; use at least 100.")
    estimate = float(statistic(np.ones(num_examples, dtype=np.int64)))
    if np.isnan(estimate):
        raise ValueError("the metric is undefined on the data themselves; nothing to bound.")
    groups = _groups(num_examples, strata)
    values = np.array([statistic(_draw(groups, num_examples, rng)) for _ in range(num_resamples)])
    defined = values[~np.isnan(values)]
    if 2 * len(defined) < num_resamples:
        raise ValueError(
            f"the metric is undefined on {num_resamples - len(defined)} of {num_resamples} "
            "resamples; resample each class by itself: strata=targets."
        )
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(defined, [tail, 1.0 - tail])
    return Interval(estimate, float(low), float(high), level, num_resamples - len(defined))


def paired_bootstrap_difference(
    statistic: Statistic,
    baseline: Statistic,
    num_examples: int,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    num_resamples: int = 1000,
    strata: np.ndarray | None = None,
) -> Interval:
    """The interval of ``statistic - baseline``, both on the same resampled samples.

    Args:
      statistic: of the model in question.
      baseline: of the model it is compared with, over the same samples in the same order.
      num_examples: n, at least 1.
      rng: the only source of chance.
      level: nominal coverage, above 0 and below 1.
      num_resamples: at least 100.
      strata: (n,) keys; each is resampled by itself and keeps its size.

    Raises:
      ValueError: as for ``bootstrap_interval``.
    """
    return bootstrap_interval(
        lambda counts: statistic(counts) - baseline(counts),
        num_examples,
        rng=rng,
        level=level,
        num_resamples=num_resamples,
        strata=strata,
    )


def _groups(num_examples: int, strata: np.ndarray | None) -> list[np.ndarray]:
    """Row numbers that are resampled together."""
    if strata is None:
        return [np.arange(num_examples)]
    if len(strata) != num_examples:
        raise ValueError(
            f"strata has {len(strata)} keys for {num_examples} samples; it needs one each."
        )
    _, key = np.unique(strata, return_inverse=True)
    return [np.flatnonzero(key == value) for value in range(int(key.max()) + 1)]


def _draw(groups: list[np.ndarray], num_examples: int, rng: np.random.Generator) -> np.ndarray:
    rows = [group[rng.integers(len(group), size=len(group))] for group in groups]
    return np.bincount(np.concatenate(rows), minlength=num_examples)
