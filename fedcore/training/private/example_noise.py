"""What one client's training of one round does to be private for each of its examples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class GroupShare:
    """How the examples of one group of persons take part.

    Attributes:
      sampling_rate: probability of each coin; 0: they never do.
      clip_norm: bound of the L2 norm of one example's gradient.

    Raises:
      ValueError: a value is out of its range.
    """

    sampling_rate: float
    clip_norm: float

    def __post_init__(self) -> None:
        _require("sampling_rate", self.sampling_rate, 0 <= self.sampling_rate <= 1, "from 0 to 1")
        _require("clip_norm", self.clip_norm, 0 < self.clip_norm < math.inf, "positive")


@dataclass(frozen=True)
class ExampleNoise:
    """The DP-SGD of one client in one round, as it is accounted for.

    Abadi et al., Deep Learning with Differential Privacy, CCS 2016, algorithm 1. Each step takes
    every example by an independent coin, scales its gradient down to ``clip_norm``, adds Gaussian
    noise to the sum and divides by the expected number of examples: a Poisson-sampled Gaussian
    mechanism, ``steps`` times, for data sets that differ by one example.

    Attributes:
      clip_norm: C, bound of the L2 norm of an example's gradient over all trainable parameters.
      noise_multiplier: sigma; the noise has standard deviation ``sigma C``. 0: no privacy.
      sampling_rate: q, probability of each coin: the expected batch over the number of examples,
        both public. (The loop's batch is ``batch_size``, the Trainer's times ``accumulation``.)
      steps: optimizer steps, those on empty batches too.
      micro_batch: examples whose gradients are computed at once; bounds the memory.
      groups: group of persons -> its own rate and bound, instead of q and C, for all groups that
        the examples are in; the noise and the divisor stay. Empty: all examples are alike.

    Raises:
      ValueError: a value is out of its range.
    """

    clip_norm: float
    noise_multiplier: float
    sampling_rate: float
    steps: int
    micro_batch: int = 32
    groups: Mapping[str, GroupShare] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rules = {
            "clip_norm": (0 < self.clip_norm < math.inf, "positive"),
            "noise_multiplier": (0 <= self.noise_multiplier < math.inf, "at least 0"),
            "sampling_rate": (0 < self.sampling_rate <= 1, "above 0 and at most 1"),
            "steps": (self.steps >= 1 and self.steps == int(self.steps), "an integer from 1"),
            "micro_batch": (
                self.micro_batch >= 1 and self.micro_batch == int(self.micro_batch),
                "an integer from 1",
            ),
        }
        for name, (holds, rule) in rules.items():
            _require(name, getattr(self, name), holds, rule)

    def shares(self, num_examples: int, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """(n,) float64 sampling rates and (n,) float64 clip norms of the examples.

        Args:
          groups: (n,) str, the group of each example; not looked at where all are alike.

        Raises:
          ValueError: an example's group is not known, or has no share.
        """
        if not self.groups:
            return np.full(num_examples, self.sampling_rate), np.full(num_examples, self.clip_norm)
        names, which = np.unique([] if groups is None else groups, return_inverse=True)
        if len(which) != num_examples or not {*names.tolist()} <= {*self.groups}:
            raise ValueError(
                f"{num_examples} examples have {len(which)} groups, {names.tolist()}; each needs "
                f"one of {sorted(self.groups)}, which the privacy was computed for."
            )
        found = [self.groups[name] for name in names.tolist()]
        return (
            np.array([share.sampling_rate for share in found])[which],
            np.array([share.clip_norm for share in found])[which],
        )


def _require(name: str, value: float, holds: bool, rule: str) -> None:
    if not holds:
        raise ValueError(f"{name}={value!r} must be {rule}.")
