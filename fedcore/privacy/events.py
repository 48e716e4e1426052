"""What happened to the data, as values: the mechanisms that were run, not what they cost.

Epsilon is computed from events when asked (:mod:`fedcore.privacy.accounting`); a composition is a
sequence of events, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Neighbours = Literal["add_or_remove", "replace_one"]
"""Which two data sets must not be told apart: one record more or less, or one replaced by another.

A record is whatever the mechanism clips: an example under example-level privacy, a client's whole
update under client-level privacy. Replacing is removing and adding, so its epsilon is larger.
"""

MOST_STEPS = 10**8


@dataclass(frozen=True)
class SampledGaussian:
    """A sum of clipped records with Gaussian noise, over a Poisson sample, some times over.

    Each record enters each sum by an independent secret coin; each has norm at most C, and the
    noise on each coordinate of the sum has standard deviation ``noise_multiplier`` times C
    (Mironov, Talwar and Zhang 2019, https://arxiv.org/abs/1908.10530, section 3).

    Attributes:
      sampling_rate: q, probability that a record enters a step, in [0, 1]; 1: everybody, always.
      noise_multiplier: sigma, standard deviation of the noise over the norm bound C; 0: no
        privacy.
      steps: how often it was run, each result being known before the next.
      sampler: how the records of a step are chosen. Only Poisson samples can be accounted for.

    Raises:
      ValueError: a value is out of its bounds, or the sampler is another one.

    >>> SampledGaussian(0.01, 1.1, 100).to_json()["steps"]
    100
    """

    sampling_rate: float
    noise_multiplier: float
    steps: int = 1
    sampler: str = "poisson"

    def __post_init__(self) -> None:
        if self.sampler != "poisson":
            raise ValueError(
                f"sampler={self.sampler!r} cannot be accounted for: epsilon is known for Poisson "
                "samples only (an independent coin for each record in each step); a fixed number "
                "drawn without replacement spends about twice as much. Draw Poisson samples, or "
                "let everybody take part and use sampling_rate=1."
            )
        _require_number("sampling_rate", self.sampling_rate, 1.0)
        _require_number("noise_multiplier", self.noise_multiplier, 1e6)
        if type(self.steps) is not int or not 1 <= self.steps <= MOST_STEPS:
            raise ValueError(f"steps={self.steps!r} must be a whole number from 1 to {MOST_STEPS}.")

    def to_json(self) -> dict[str, Any]:
        """Flat JSON; :meth:`from_json` gives the event back."""
        return asdict(self)

    @staticmethod
    def from_json(value: Any) -> SampledGaussian:
        """The event whose JSON this is.

        Raises:
          ValueError: not all fields and only they, of their types and in their bounds.
        """
        names = {"sampling_rate", "noise_multiplier", "steps", "sampler"}
        if not isinstance(value, Mapping) or set(value) != names:
            raise ValueError(f"a privacy event must have the fields {', '.join(sorted(names))}.")
        return SampledGaussian(**value)


def _require_number(name: str, value: Any, most: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value <= most:
        raise ValueError(f"{name}={value!r} must be a number from 0 to {most:g}.")
