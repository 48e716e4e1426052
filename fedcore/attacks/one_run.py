"""A lower bound on epsilon from one training run with many canaries.

Steinke, Nasr, Jagielski, Privacy Auditing with One (1) Training Run, NeurIPS 2023.
https://arxiv.org/abs/2305.08846

A fair coin that the trainer does not know decides of each of m canaries whether it is trained on.
The auditor scores the canaries with what was released, guesses that the k+ highest were in and the
k- lowest out, and abstains on the rest. Training that is (epsilon, delta)-private for adding or
removing one canary cannot make r = k+ + k- guesses right much more often than randomised response.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

HALVINGS = 5
"""Sizes of guesses that are tried: everything, a half, a quarter, ... of the canaries."""
LARGEST_EPSILON = 100.0


@dataclass(frozen=True)
class OneRun:
    """What one run with canaries proves.

    Attributes:
      epsilon: lower bound at ``confidence`` on every epsilon that the training can claim at
        ``delta``; 0 proves nothing.
      delta: the claim's.
      confidence: 1 minus the probability that the bound is too high.
      canaries: m.
      guesses: r, of the best of the choices that were tried.
      correct: v of them.
    """

    epsilon: float
    delta: float
    confidence: float
    canaries: int
    guesses: int
    correct: int

    def refutes(self, claimed: float) -> bool:
        """Whether the claim is disproved: the bound lies above it."""
        return self.epsilon > claimed


def audit_one_run(
    scores: np.ndarray,
    included: np.ndarray,
    *,
    delta: float,
    confidence: float = 0.95,
    guesses: Sequence[tuple[int, int]] | None = None,
) -> OneRun:
    """The best bound over a few choices of (k+, k-), each tested at its share of the error.

    The theorem is about a number of guesses that was fixed before the scores were seen, so
    trying ten choices costs a factor of ten in the p-value (Bonferroni).

    Args:
      scores: shape (m,), higher where the canary looks trained on; must not depend on the coins
        but through what was released.
      included: shape (m,) bool, the coins.
      delta: of the claim, at least 0 and below 1.
      confidence: above 0 and below 1.
      guesses: choices of (k+, k-); None: two-sided and k+ alone, at half of the canaries and at
        four halvings of that.

    Raises:
      ValueError: scores that are not finite, wrong shapes, or more guesses than canaries.
    """
    scores, included = np.asarray(scores, np.float64), np.asarray(included)
    if scores.ndim != 1 or not len(scores) or included.shape != scores.shape:
        raise ValueError(
            f"scores of shape {scores.shape} and included of shape {included.shape}: "
            "the audit needs one score and one coin per canary."
        )
    if included.dtype != np.bool_:
        raise ValueError(f"included has dtype {included.dtype}; coins are bool.")
    if not np.isfinite(scores).all():
        raise ValueError("scores have values that are not finite; did the training diverge?")
    _check(delta, confidence)
    total = len(scores)
    choices = usual_guesses(total) if guesses is None else list(guesses)
    order = np.argsort(scores, kind="stable")
    best = OneRun(0.0, delta, confidence, total, 0, 0)
    for high, low in choices:
        if min(high, low) < 0 or not 0 < high + low <= total:
            raise ValueError(f"guesses={(high, low)}: k+ and k- are 0 to {total} together, not 0.")
        right = included[order[total - high :]].sum() + (~included[order[:low]]).sum()
        level = 1 - (1 - confidence) / len(choices)
        found = lower_bound(total, high + low, int(right), delta=delta, confidence=level)
        if found > best.epsilon or best.guesses == 0:
            best = OneRun(found, delta, confidence, total, high + low, int(right))
    return best


def usual_guesses(canaries: int) -> list[tuple[int, int]]:
    """The choices of (k+, k-) that an audit tries when none are named.

    >>> usual_guesses(8)
    [(4, 4), (4, 0), (2, 2), (2, 0), (1, 1), (1, 0)]
    """
    sizes = [k for halving in range(1, HALVINGS + 1) if (k := canaries >> halving)]
    return [pair for k in sizes for pair in ((k, k), (k, 0))]


def lower_bound(
    canaries: int, guesses: int, correct: int, *, delta: float, confidence: float = 0.95
) -> float:
    """The largest epsilon that ``correct`` of ``guesses`` refute; 0 when they refute none.

    Every refuted epsilon is a valid bound, even where the p-value is not monotone, because a
    mechanism that is private at a smaller epsilon is so at a larger one. Bisection therefore errs
    on the safe side only.

    >>> round(lower_bound(1000, 1000, 1000, delta=1e-5), 2)
    5.78
    """
    _check(delta, confidence)
    low, high = 0.0, LARGEST_EPSILON
    if p_value(canaries, guesses, correct, low, delta) > 1 - confidence:
        return 0.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        refuted = p_value(canaries, guesses, correct, middle, delta) <= 1 - confidence
        low, high = (middle, high) if refuted else (low, middle)
    return low


def p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """The largest probability of ``correct`` right guesses under (epsilon, delta)-privacy.

    Theorem 5.2: ``P[W >= v] + 2 m delta max_i P[v > W >= v - i] / i`` for W binomial with r trials
    of probability ``1 / (1 + exp(-epsilon))``, i from 1 to m.

    Args:
      canaries: m.
      guesses: r, at most m.
      correct: v, at most r.
      epsilon: of the claim, at least 0.
      delta: of the claim.
    """
    from scipy.special import bdtrc
    from scipy.stats import binom

    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(
            f"correct={correct}, guesses={guesses}, canaries={canaries}: each is at most the next."
        )
    accuracy = 1 / (1 + math.exp(-epsilon))
    beta = float(bdtrc(correct - 1, guesses, accuracy)) if correct else 1.0
    if not delta:
        return beta
    below = binom.pmf(np.arange(correct - 1, -1, -1), guesses, accuracy)
    alpha = float(np.max(np.cumsum(below) / np.arange(1, correct + 1), initial=0.0))
    return min(1.0, beta + 2 * canaries * delta * alpha)


def _check(delta: float, confidence: float) -> None:
    if not 0 <= delta < 1:
        raise ValueError(f"delta={delta}: a probability, at least 0 and below 1.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: above 0 and below 1, e.g. 0.95.")
