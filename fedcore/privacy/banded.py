"""Noise that later rounds partly take back: a banded factorization of the sums over rounds.

With C lower triangular, one row and column for each round, the releases are ``X + C^-1 Z`` for
standard normal Z: invertibly, ``C X + Z``. A model after t rounds is the sum of t releases, and the
noise in it is row t of ``A C^-1`` times Z, A being lower triangular ones. C is Toeplitz with b
diagonals, those of the square root of A (Fichtenberger, Henzinger and Upadhyay, Constant Matters,
ICML 2023, https://arxiv.org/abs/2202.11205), cut off and scaled to columns of norm 1: the banded
square root of Kalinin and Lampert, Banded Square Root Matrix Factorization, NeurIPS 2024
(https://arxiv.org/abs/2405.13763). It is of closed form and does not depend on the number of
rounds, so that a run can be extended; for up to ten times as many rounds as bands its error is
within 4 % of the best Toeplitz matrix of that band found by search, as in Choquette-Choo et al.,
(Amplified) Banded Matrix Factorization, NeurIPS 2023 (https://arxiv.org/abs/2306.08153).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fedcore.privacy.secret_stream import SecretStream

INDEPENDENT = (1.0,)
_Band = tuple[float, ...]
# The noise of the last call, for the round that follows. It is what a run that goes on needs, and
# never leaves the process; any other call draws everything anew, and gets the same.
_latest: dict[tuple[_Band, tuple[bytes, ...], tuple[int, ...]], tuple[np.ndarray, ...]] = {}


def square_root_band(bands: int) -> _Band:
    """(bands,) the diagonals of C from the main one down: ``binom(2i, i) / 4^i``, scaled to norm 1.

    >>> square_root_band(1)
    (1.0,)
    >>> [round(c, 3) for c in square_root_band(3)]
    [0.848, 0.424, 0.318]
    """
    raw = [1.0]
    for i in range(1, bands):
        raw.append(raw[-1] * (2 * i - 1) / (2 * i))
    norm = math.sqrt(math.fsum(c * c for c in raw))
    return tuple(c / norm for c in raw)


def correlated_noise(band: _Band, keys: Sequence[bytes], sizes: Sequence[int]) -> np.ndarray:
    """(sum of sizes,) row t of ``C^-1 Z``: ``w_t = (z_t - sum_i c_i w_(t-i)) / c_0``.

    Args:
      band: diagonals of C.
      keys: of ``z_1`` to ``z_t``, 32 bytes each, used for nothing else.
      sizes: of the tensors; each key's stream is drawn from in their order.

    Takes memory for the band, and the time of t draws where the last call was not for the round
    before.
    """
    keys, sizes = tuple(keys[-1:] if band == INDEPENDENT else keys), tuple(sizes)
    recent = _latest.get((band, keys[:-1], sizes))
    left = keys if recent is None else keys[-1:]
    recent = recent or ()
    for key in left:
        stream = SecretStream(key)
        noise = np.concatenate([stream.normal(size) for size in sizes] or [np.empty(0)])
        for c, before in zip(band[1:], reversed(recent), strict=False):
            noise -= c * before
        noise /= band[0]
        recent = (*recent, noise)[-(len(band) - 1) :] if len(band) > 1 else (noise,)
    _latest.clear()
    if len(band) > 1:
        _latest[band, keys, sizes] = recent
    return recent[-1].copy()


def prefix_sum_errors(band: _Band, rounds: int) -> np.ndarray:
    """(rounds,) standard deviation of the noise in the sum of the first t releases, a coordinate;
    the root of t where the noise is independent.

    >>> prefix_sum_errors((1.0,), 4).round(3)
    array([1.   , 1.414, 1.732, 2.   ])
    """
    inverse = np.zeros(rounds)
    inverse[0] = 1 / band[0]
    for t in range(1, rounds):
        most = min(t, len(band) - 1)
        inverse[t] = -np.dot(band[1 : most + 1], inverse[t - most : t][::-1]) / band[0]
    return np.sqrt(np.cumsum(np.cumsum(inverse) ** 2))
