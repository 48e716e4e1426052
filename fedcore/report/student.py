"""Student's interval of a mean over a few repetitions.

Student, The Probable Error of a Mean, Biometrika 6(1), 1908. It takes the repetitions as drawn from
one normal distribution, which three seeds cannot check: read it as the order of the error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fedcore.report.bootstrap import Interval


def student_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """``mean +- t(n - 1) s / sqrt(n)``; both ends are NaN for a single value.

    Args:
      values: (n,) of independent repetitions, at least one.
      level: nominal coverage, above 0 and below 1.

    Raises:
      ValueError: no values, or a level out of its bounds.

    >>> print(student_interval([0.90, 0.92, 0.91]))
    0.910 [0.885, 0.935]
    """
    if not values:
        raise ValueError("values has nothing in it; a mean needs at least one repetition.")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level={level} must lie between 0 and 1, e.g. 0.95.")
    from scipy.special import stdtrit  # a tenth of scipy.stats' import

    given = np.asarray(values, dtype=np.float64)
    mean, count = float(given.mean()), len(given)
    if count == 1:
        return Interval(mean, math.nan, math.nan, level)
    quantile = float(stdtrit(count - 1, (1 + level) / 2))
    reach = quantile * float(given.std(ddof=1)) / math.sqrt(count)
    return Interval(mean, mean - reach, mean + reach, level)
