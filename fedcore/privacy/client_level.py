"""Hiding a whole client: clipped updates, one noisy sum, a denominator fixed in advance.

McMahan, Ramage, Talwar, Zhang, Learning Differentially Private Recurrent Language Models, ICLR
2018, algorithm 1; Andrew, Thakkar, McMahan, Ramaswamy, Differentially Private Learning with
Adaptive Clipping, NeurIPS 2021, algorithm 1 and theorem 1 for the clip norm that follows a
quantile. Neighbours differ in one client's presence (add or remove). The noise of rounds may be
correlated (:mod:`fedcore.privacy.banded`); :meth:`ClientMechanism.multipliers` proves the cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedcore.aggregation import canonical_sum
from fedcore.privacy.banded import INDEPENDENT, correlated_noise
from fedcore.privacy.clip_and_noise import l2_norm
from fedcore.privacy.secret_stream import SecretStream, derived_key
from fedcore.tensors import Arrays

_MOST_NOISE = 1e6  # of an event
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
      band: diagonals of C, of norm 1; a client's participations are that many rounds apart.
    """

    clip_norm: float
    noise_multiplier: float
    denominator: float
    examples_cap: int | None = None
    adaptive: Adaptive | None = None
    band: tuple[float, ...] = INDEPENDENT

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

    def multipliers(self, earlier: int) -> tuple[float, ...]:
        """What one release tells of those who took part in its round, in the round before, ...

        Let ``s_r`` be the clip norm times ``sum_multiplier`` of round r, and ``x_r`` its clipped
        sum over ``s_r``. Given all releases before, that of round r is equivalent to row r of
        ``C x`` plus ``z_r``, standard normal and drawn for this release alone. A client whose
        rounds are at least b apart is in at most one of the b rounds that row r covers; if that is
        round r - i, its update moves the row by at most ``c_i / sum_multiplier``, whatever the clip
        norm follows: update and clip norm depend on releases before only. So the release is one
        Gaussian of multiplier ``sum_multiplier / c_i`` for the clients of round r - i, and a run is
        an adaptive composition of them. Over b rows ``sum c_i^2 = 1``: k participations tell at
        most what k Gaussians of ``sum_multiplier`` do, ``sqrt(k)`` times the sensitivity of one. A
        fork, or a round repeated with other updates, is one release more, and all that its row
        covers pay again. The count of an adaptive clip norm is about the round's own clients.

        Args:
          earlier: rounds before that the noise goes on from.

        Returns:
          noise multipliers, of events without sampling unless the band is ``INDEPENDENT``.
        """
        if self.band == INDEPENDENT:
            return (self.noise_multiplier,)
        alone = self.sum_multiplier
        if alone == 0:
            return (0.0,) * len(self.band[: earlier + 1])
        first = (self.band[0] / alone) ** 2
        if self.adaptive is not None:
            first += (2 * self.adaptive.count_stddev) ** -2
        return (first**-0.5, *(min(alone / c, _MOST_NOISE) for c in self.band[1 : earlier + 1]))


def private_mean(
    updates: Iterable[tuple[Arrays, int]],
    template: Arrays,
    mechanism: ClientMechanism,
    key: bytes,
    earlier: Sequence[bytes] = (),
) -> tuple[dict[str, np.ndarray], float]:
    """(sum of clipped weighted updates + noise) / denominator, and the next clip norm.

    Args:
      updates: (tensors, number of examples), in client-id order; may be empty: noise alone.
      template: names and shapes.
      key: 32 bytes that only the coordinator can compute, of this very sum.
      earlier: the keys of the sums before whose noise this one's goes on from, oldest first.

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
    names = sorted(template)
    sizes = [template[name].size for name in names]
    keys = [derived_key(each, "client level", "sum") for each in (*earlier, key)]
    noise = correlated_noise(mechanism.band, keys, sizes)
    stddev = mechanism.sum_multiplier * clip
    parts = np.split(noise, np.cumsum(sizes)[:-1])
    mean = {
        name: (total.get(name, 0.0) + stddev * part.reshape(template[name].shape))
        / mechanism.denominator
        for name, part in zip(names, parts, strict=True)
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
