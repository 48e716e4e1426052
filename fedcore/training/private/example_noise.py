"""What one client's training of one round does to be private for each of its examples."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


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

    Raises:
      ValueError: a value is out of its range.
    """

    clip_norm: float
    noise_multiplier: float
    sampling_rate: float
    steps: int
    micro_batch: int = 32

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
        for field in fields(self):
            holds, rule = rules[field.name]
            if not holds:
                raise ValueError(f"{field.name}={getattr(self, field.name)!r} must be {rule}.")
