"""Epsilon from Renyi divergences: looser than the loss distribution, and simple to check.

Mironov, Talwar and Zhang, Renyi Differential Privacy of the Sampled Gaussian Mechanism, 2019
(https://arxiv.org/abs/1908.10530), with the integral of its section 3.3 taken numerically; the
conversion is Balle et al. 2020 (https://arxiv.org/abs/1905.09982), theorem 21.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from fedcore.privacy.dominating import Pair

ORDERS = 1 + np.geomspace(2.0**-20, 2.0**36, 1009)
"""alpha; neighbouring ``alpha - 1`` are 4 % apart, which costs epsilon under 0.1 %."""
_REACH = 10.0  # standard deviations; beyond it lies 1e-23 of the integral
_ROUNDING = 1e-14
_LEAST_SIGMA = 0.25
_LEAST_RISE = 1 / 64
_MOST_NODES = 2**14


def renyi_epsilon(
    pairs: Sequence[tuple[Pair, int]], delta: float, *, is_added: bool = False
) -> tuple[float, float]:
    """The epsilon of all pairs' compositions in one direction, and the order it is found at.

    Args:
      pairs: each with the number of its steps.
      delta: above 0, below 1.
      is_added: Q against P instead of P against Q.
    """
    total = sum((count * divergences(pair, is_added) for pair, count in pairs), np.zeros(1))
    return epsilon_of(total, delta)


def epsilon_of(divergence: np.ndarray, delta: float) -> tuple[float, float]:
    """The epsilon at ``delta`` of a mechanism, and the order it is found at.

    Args:
      divergence: at each of :data:`ORDERS`.
    """
    epsilons = (
        divergence + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    )
    best = int(np.argmin(epsilons))
    return max(0.0, float(epsilons[best])), float(ORDERS[best])


@lru_cache(maxsize=1024)
def divergences(pair: Pair, is_added: bool = False) -> np.ndarray:
    """Renyi divergence of P from Q (or Q from P) at each of :data:`ORDERS`.

    It is infinite at orders too large to be the best for any delta above 1e-300.
    """
    square = (2.0 if pair.is_replaced else 1.0) ** 2 / pair.sigma**2
    if pair.q == 1:
        found = ORDERS * square / 2
    elif pair.sigma < _LEAST_SIGMA:
        # Few steps' worth of noise: convexity in the coin is enough.
        whole = (ORDERS - 1) * ORDERS * square / 2
        found = np.logaddexp(math.log1p(-pair.q), math.log(pair.q) + whole) / (ORDERS - 1)
    else:
        found = _integrated(pair, is_added)
    if is_added and not pair.is_replaced:
        found = np.minimum(found, -math.log1p(-pair.q) if pair.q < 1 else math.inf)
    found.flags.writeable = False
    return found


def _integrated(pair: Pair, is_added: bool) -> np.ndarray:
    """``log E_Q[(P / Q)^alpha] / (alpha - 1)`` by the trapezoidal rule.

    It converges exponentially for integrands analytic in a strip (Trefethen and Weideman 2014);
    this one's is ``pi sigma^2`` wide.
    """
    step = min(pair.sigma, pair.sigma**2) / 8
    reach = _REACH * pair.sigma
    # The divergence shoots up beyond 2 sigma^2 log(1 / q), and beyond 40 sigma no delta is left.
    most = max(64 * max(1.0, pair.sigma), -2.5 * pair.sigma**2 * math.log(pair.q))
    used = (ORDERS >= 1 + _LEAST_RISE) & (min(most, _MOST_NODES * step) >= ORDERS)
    lowest, highest = -ORDERS[used][-1] - reach, ORDERS[used][-1] + reach
    if not pair.is_replaced:
        lowest, highest = (lowest, reach + 1) if is_added else (-reach, highest)
    z = np.arange(lowest, highest, step)
    log_p, log_q = (step_mass + math.log(step) for step_mass in pair.log_densities(z))
    if is_added:
        log_p, log_q = log_q, log_p
    loss = log_p - log_q
    moments = np.array([log_sum_exp(log_q + order * loss) for order in ORDERS[used]])
    found = np.full(len(ORDERS), math.inf)
    found[used] = (np.maximum(moments, 0) + _ROUNDING) / (ORDERS[used] - 1)
    found[ORDERS < 1 + _LEAST_RISE] = found[used][0]  # it grows with the order
    return found


def log_sum_exp(terms: np.ndarray) -> float:
    """``log(sum(exp(terms)))``, for finite terms and some -inf."""
    most = terms.max()
    return float(most + np.log(np.exp(terms - most).sum()))
