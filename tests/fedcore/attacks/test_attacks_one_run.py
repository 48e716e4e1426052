"""The one-run audit's bound: against mechanisms of known epsilon and a sum by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest

from fedcore.attacks.one_run import audit_one_run, lower_bound, p_value


def randomised_response(epsilon, canaries, rng, leaks=0.0):
    """Scores of a mechanism that is exactly (epsilon, leaks)-private in each coin."""
    coins = rng.random(canaries) < 0.5
    honest = rng.random(canaries) < 1 / (1 + math.exp(-epsilon))
    told = rng.random(canaries) < leaks
    answers = np.where(coins == honest, 1.0, 0.0)
    return np.where(told, np.where(coins, 2.0, -1.0), answers), coins


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_the_bound_holds_for_randomised_response_and_is_close(epsilon):
    rng = np.random.default_rng(7)
    found = [
        audit_one_run(*randomised_response(epsilon, 2000, rng), delta=0.0).epsilon
        for _ in range(60)
    ]
    assert np.mean(np.array(found) <= epsilon) >= 0.95
    assert np.median(found) > 0.7 * epsilon
    # One choice, no correction: right as often as it says (3 standard errors of 400 trials), and
    # so close that a fifth more would be wrong more often than not.
    fixed = np.array([
        audit_one_run(
            *randomised_response(epsilon, 2000, rng), delta=0.0, guesses=[(500, 500)]
        ).epsilon
        for _ in range(400)
    ])  # fmt: skip
    assert np.mean(fixed <= epsilon) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 400)
    assert np.mean(fixed + 0.2 * max(1, epsilon) <= epsilon) < 0.5


def test_a_delta_that_is_not_accounted_for_breaks_the_bound_and_accounting_repairs_it():
    rng = np.random.default_rng(1)
    drawn = [randomised_response(0.5, 2000, rng, leaks=0.01) for _ in range(40)]
    pairs = [(10, 10)]
    pure = [audit_one_run(*d, delta=0.0, guesses=pairs).epsilon for d in drawn]
    with_delta = [audit_one_run(*d, delta=0.01, guesses=pairs).epsilon for d in drawn]
    assert np.mean(np.array(pure) <= 0.5) < 0.1
    assert np.mean(np.array(with_delta) <= 0.5) >= 0.95


def test_the_p_value_is_the_sum_of_the_theorem():
    canaries, guesses, correct = 12, 9, 8
    q, delta = Fraction(3, 4), Fraction(1, 50)  # epsilon = log 3
    pmf = [math.comb(guesses, k) * q**k * (1 - q) ** (guesses - k) for k in range(guesses + 1)]
    beta = sum(pmf[correct:])
    alpha = max(
        Fraction(2, i) * sum(pmf[max(0, correct - i) : correct]) for i in range(1, canaries + 1)
    )
    exact = beta + alpha * canaries * delta
    assert p_value(canaries, guesses, correct, math.log(3), 0.02) == pytest.approx(float(exact))


def test_limits():
    # All of r right without delta: (1 + exp(-epsilon))^-r = 0.05.
    assert lower_bound(1000, 1000, 1000, delta=0) == pytest.approx(
        -math.log(0.05 ** (-1 / 1000) - 1), abs=1e-4
    )
    assert lower_bound(1000, 1000, 500, delta=0) == 0
    saturated = [lower_bound(m, m, m, delta=1e-5) for m in (500, 1000, 2000)]
    assert saturated == sorted(saturated) and saturated[0] > 5
    assert lower_bound(1000, 1000, 1000, delta=0.01) < 2  # a delta times m that explains it


def test_more_right_guesses_never_prove_less():
    bounds = [lower_bound(200, 100, right, delta=1e-3) for right in range(101)]
    assert bounds == sorted(bounds)


@pytest.mark.parametrize(
    ("scores", "included", "more", "match"),
    [
        ([1.0, 2.0], [True], {}, "one score and one coin"),
        ([1.0, 2.0], [1, 0], {}, "coins are bool"),
        ([1.0, np.nan], [True, False], {}, "not finite"),
        ([1.0, 2.0], [True, False], {"guesses": [(2, 1)]}, r"guesses=\(2, 1\)"),
        ([1.0, 2.0], [True, False], {"delta": 1.0}, "delta=1.0"),
        ([1.0, 2.0], [True, False], {"confidence": 1.0}, "confidence=1.0"),
    ],
)
def test_wrong_input_is_refused(scores, included, more, match):
    with pytest.raises(ValueError, match=match):
        audit_one_run(np.array(scores), np.array(included), **{"delta": 1e-5, **more})
