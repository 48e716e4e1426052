"""Hiding a whole client: clipped updates, one noisy sum, a denominator fixed in advance.

McMahan, Ramage, Talwar, Zhang, Learning Differentially Private Recurrent Language Models, ICLR
2018, algorithm 1; Andrew, Thakkar, McMahan, Ramaswamy, Differentially Private Learning with
Adaptive Clipping, NeurIPS 2021, algorithm 1 and theorem 1 for the clip norm that follows a
quantile. Neighbours differ in one client's presence (add or remove).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fedcore.aggregation import canonical_sum
from fedcore.privacy.clip_and_noise import l2_norm
from fedcore.privacy.secret_stream import SecretStream, derived_key
from fedcore.tensors import Arrays

_LOG2_CLIP = 60  # an adaptive clip norm stays within 2**-60 and 2**60


@dataclass(frozen=True)
class Adaptive:
    """The clip norm follows a quantile of the norms.

    Attributes:
      quantile: part of the clients whose updates are to be shorter than the clip norm.
      learning_rate: of its logarithm.
      count_stddev: of the noise on the number of shorter ones; it is paid for by a little more
        noise on the sum.
    """

    quantile: float
    learning_rate: float
    count_stddev: float


@dataclass(frozen=True)
class ClientMechanism:
    """What the server does to the updates of a round before anybody sees their sum.

    Attributes:
      clip_norm: largest L2 norm of one update, over all tensors.
      noise_multiplier: of the whole mechanism, the count of the adaptive clip norm included.
      denominator: what the noisy sum is divided by, whoever came; in units of the weights.
      examples_cap: a client of n examples weighs min(n / cap, 1); None: 1.
      adaptive: or None: the clip norm stays.
    """

    clip_norm: float
    noise_multiplier: float
    denominator: float
    examples_cap: int | None = None
    adaptive: Adaptive | None = None

    def weight(self, num_examples: int) -> float:
        """Of a client's update, at most 1: the sensitivity of the sum is then ``clip_norm``."""
        return 1.0 if self.examples_cap is None else min(num_examples / self.examples_cap, 1.0)

    @property
    def sum_multiplier(self) -> float:
        """Noise multiplier of the sum alone: ``(z^-2 - (2 count_stddev)^-2)^-1/2``.

        Raises:
          ValueError: the count needs more noise than the whole mechanism has.
        """
        if self.adaptive is None or self.noise_multiplier == 0:
            return self.noise_multiplier
        left = self.noise_multiplier**-2 - (2 * self.adaptive.count_stddev) ** -2
        if left <= 0:
            raise ValueError(
                f"count_stddev={self.adaptive.count_stddev:g} must be more than half of "
                f"noise_multiplier={self.noise_multiplier:g}: raise it."
            )
        return left**-0.5


def private_mean(
    updates: Iterable[tuple[Arrays, int]],
    template: Arrays,
    mechanism: ClientMechanism,
    key: bytes,
) -> tuple[dict[str, np.ndarray], float]:
    """(sum of clipped weighted updates + noise) / denominator, and the next clip norm.

    Args:
      updates: (tensors, number of examples), in client-id order; may be empty: noise alone.
      template: names and shapes.
      key: 32 bytes that only the coordinator can compute, of this very sum.

    Returns:
      named float64 arrays; the clip norm of the next round.
    """
    clip, shorter, came = mechanism.clip_norm, 0, 0

    def clipped() -> Iterable[tuple[Mapping[str, np.ndarray], float]]:
        nonlocal shorter, came
        for arrays, num_examples in updates:
            norm = l2_norm(arrays)
            came, shorter = came + 1, shorter + (norm <= clip)
            yield arrays, min(1.0, clip / norm if norm else 1.0) * mechanism.weight(num_examples)

    total = canonical_sum(clipped())
    noise = SecretStream(derived_key(key, "client level", "sum"))
    stddev = mechanism.sum_multiplier * clip
    mean = {
        name: (
            total.get(name, 0.0)
            + stddev * noise.normal(template[name].size).reshape(template[name].shape)
        )
        / mechanism.denominator
        for name in sorted(template)
    }
    return mean, _next_clip(mechanism, shorter, came, key)


def _next_clip(mechanism: ClientMechanism, shorter: int, came: int, key: bytes) -> float:
    how = mechanism.adaptive
    if how is None:
        return mechanism.clip_norm
    stream = SecretStream(derived_key(key, "client level", "count"))
    # Each client counts +1/2 or -1/2, so that one more or less changes the sum by 1/2 only.
    noisy = shorter - came / 2 + how.count_stddev * float(stream.normal(1)[0])
    fraction = noisy / mechanism.denominator + 0.5
    step = how.learning_rate * (min(max(fraction, 0.0), 1.0) - how.quantile)
    log2 = math.log2(mechanism.clip_norm) - step * math.log2(math.e)
    return 2.0 ** min(max(log2, -_LOG2_CLIP), _LOG2_CLIP)
