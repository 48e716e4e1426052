"""The two outcomes hardest to tell apart: the dominating pair of a Poisson-sampled Gaussian sum.

Symbols as in this package's README, which also has the proof for ``replace_one``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pair:
    """Distributions P and Q of one number z, in units of the norm bound C.

    ``P = (1 - q) N(0, sigma^2) + q N(1, sigma^2)``. Against removing a record ``Q = N(0,
    sigma^2)``, and against adding one the two change places; against replacing one
    ``Q = (1 - q) N(0, sigma^2) + q N(-1, sigma^2)``, which is its own mirror image.

    Whatever a step computes, in any dimension, it is no easier to tell whose record is in it than
    to tell P from Q: Zhu, Dong and Wang 2022 (https://arxiv.org/abs/2106.08567), theorem 11 and
    proposition 30; this holds for compositions by their theorem 10.

    Attributes:
      q: sampling rate, above 0.
      sigma: noise multiplier, above 0.
      is_replaced: whether one record is replaced by another.
    """

    q: float
    sigma: float
    is_replaced: bool

    def loss(self, z: np.ndarray) -> np.ndarray:
        """``log P(z) / Q(z)``, growing with z."""
        up = self._log_likelihood(z)
        return up - self._log_likelihood(-z) if self.is_replaced else up

    def outcome(self, loss: np.ndarray) -> np.ndarray:
        """The z of which ``loss`` is the loss; -inf where no z has so small a one."""
        square = self.sigma**2
        if self.q == 1:
            return square * loss / 2 if self.is_replaced else square * loss + 0.5
        if self.is_replaced:
            # The root of a quadratic in exp(z / sigma^2): z = sigma^2 (l / 2 + asinh(w)) with
            # w = (1 - q) / q exp(1 / (2 sigma^2)) sinh(l / 2).
            half = np.abs(loss) / 2
            with np.errstate(divide="ignore"):
                log_w = (
                    half + np.log(-np.expm1(-2 * half)) - math.log(2)
                    + math.log1p(-self.q) - math.log(self.q) + 1 / (2 * square)
                )  # fmt: skip
            small = np.arcsinh(np.exp(np.minimum(log_w, 300)))
            return square * (
                loss / 2 + np.sign(loss) * np.where(log_w > 300, log_w + math.log(2), small)
            )
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            inside = np.log1p(-(1 - self.q) * np.exp(-loss))
            z = 0.5 + square * (loss + inside - math.log(self.q))
        return np.where(np.isnan(z), -np.inf, z)

    def log_masses(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of P's and Q's masses between neighbours in ``z`` (n + 1,): two, each (n,)."""
        none, one = _log_normal(z / self.sigma), _log_normal((z - 1) / self.sigma)
        mixed = self._mixture(none, one)
        if not self.is_replaced:
            return mixed, none
        return mixed, self._mixture(none, _log_normal((z + 1) / self.sigma))

    def log_densities(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of P's and Q's densities."""
        none = -((z / self.sigma) ** 2) / 2 - math.log(self.sigma * math.sqrt(2 * math.pi))
        mirrored = self._log_likelihood(-z) if self.is_replaced else 0
        return none + self._log_likelihood(z), none + mirrored

    def variance(self) -> float:
        """Of the loss under P; a scale, to some per cent."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(64)
        z = self.sigma * np.concatenate([nodes, nodes + 1 / self.sigma])
        weights = np.concatenate([(1 - self.q) * weights, self.q * weights]) / weights.sum()
        loss = self.loss(z)
        mean = float(weights @ loss)
        return float(weights @ (loss - mean) ** 2)

    def _log_likelihood(self, z: np.ndarray) -> np.ndarray:
        """``log(1 - q + q exp((2 z - 1) / (2 sigma^2)))``."""
        return self._mixture(np.zeros_like(z), (2 * z - 1) / (2 * self.sigma**2))

    def _mixture(self, none: np.ndarray, one: np.ndarray) -> np.ndarray:
        if self.q == 1:
            return one
        return np.logaddexp(math.log1p(-self.q) + none, math.log(self.q) + one)


def _log_normal(z: np.ndarray) -> np.ndarray:
    """Logarithm of a normal variable's probability between neighbours, exact in both tails."""
    from scipy.special import log_ndtr

    low, high = z[:-1], z[1:]
    low, high = np.where(low > 0, -high, low), np.where(low > 0, -low, high)
    with np.errstate(divide="ignore", invalid="ignore"):
        top = log_ndtr(high)
        mass = top + np.log(-np.expm1(log_ndtr(low) - top))
    return np.where(high > low, mass, -np.inf)
