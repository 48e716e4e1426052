"""LiRA: a leak of known size, no leak, the two likelihoods by hand, and what it refuses."""

import numpy as np
import pytest
from scipy.stats import norm

from fedcore.attacks import lira as attack
from fedcore.attacks.lira import (
    draw_members,
    likelihood_ratios,
    lira,
    log_odds,
    measure_membership,
)
from fedcore.task import Task, TaskKind

BINARY = Task(TaskKind.BINARY, ("no", "yes"))
RECORDS = 200


def leaky(shift, seed=0):
    """Models whose confidence in a record is Gaussian and ``shift`` higher for members."""
    rng = np.random.default_rng(seed)
    own = 3 * rng.normal(size=RECORDS)  # hard and easy records

    def trainer(members, shadow):
        return (own + shift * members + rng.normal(size=RECORDS))[:, None]

    return trainer


@pytest.mark.parametrize("kind", ["online", "offline"])
def test_a_known_leak_is_measured_and_no_leak_is_none(kind):
    targets = np.ones(RECORDS, np.int64)
    rng = np.random.default_rng(1)
    found = lira(leaky(1.5), targets, task=BINARY, rng=rng, models=32, kind=kind)
    # Two Gaussians at a distance of d: AUC = Phi(d / sqrt 2), TPR = Phi(d - z of the rate).
    # Fitted means of 16 models add their error to d.
    assert 0.8 < found.auc.estimate < norm.cdf(1.5 / 2**0.5) + 0.02
    assert found.auc.low <= found.auc.estimate <= found.auc.high
    assert found.tpr[0.01].estimate == pytest.approx(norm.cdf(1.5 - norm.isf(0.01)), abs=0.08)
    assert 0.001 < found.tpr[0.001].estimate < found.tpr[0.01].estimate
    nothing = lira(leaky(0.0), targets, task=BINARY, rng=rng, models=16, kind=kind)
    assert nothing.auc.low < 0.5 < nothing.auc.high
    assert nothing.to_json()["tpr"]["0.01"]["estimate"] < 0.03


def test_the_ratio_is_that_of_the_two_fitted_densities(monkeypatch):
    monkeypatch.setattr(attack, "OWN_VARIANCE_FROM", 0)
    rng = np.random.default_rng(2)
    members = draw_members(8, 5, rng)
    values = rng.normal(size=(8, 5)) + members
    online = likelihood_ratios(values, members, "online")
    offline = likelihood_ratios(values, members, "offline")
    for model, record in [(0, 0), (3, 4), (7, 2)]:
        rest = np.arange(8) != model
        inside = values[rest & members[:, record], record]
        outside = values[rest & ~members[:, record], record]
        at = values[model, record]
        fits = [(part.mean(), part.std(ddof=1)) for part in (inside, outside)]
        expected = norm.logpdf(at, *fits[0]) - norm.logpdf(at, *fits[1])
        assert online[model, record] == pytest.approx(expected)
        assert norm.cdf(offline[model, record]) == pytest.approx(norm.cdf(at, *fits[1]))


def test_rates_count_equal_scores_together():
    members = np.array([[True, True, False, False] * 5])
    constant = measure_membership(
        np.zeros((1, 20)), members, "online", rng=np.random.default_rng(0), num_resamples=100
    )
    assert constant.auc.estimate == 0.5 and constant.tpr[0.01].estimate == 0
    perfect = measure_membership(
        members.astype(float), members, "online", rng=np.random.default_rng(0), num_resamples=100
    )
    assert perfect.auc.estimate == perfect.tpr[0.001].estimate == 1


def test_log_odds_survive_certainty():
    task = Task(TaskKind.MULTICLASS, ("a", "b", "c"))
    logits = np.array([[900.0, 0.0, -900.0], [0.0, 1.0, 2.0]])
    odds = log_odds(logits, np.array([0, 1]), task)
    p = np.exp(1) / np.exp([0, 1, 2]).sum()
    assert odds == pytest.approx([900.0, np.log(p / (1 - p))])
    assert log_odds(np.array([[2.0], [2.0]]), np.array([0, 1]), BINARY).tolist() == [-2, 2]


def test_each_record_is_in_half_of_the_models():
    members = draw_members(10, 50, np.random.default_rng(0))
    assert (members.sum(axis=0) == 5).all() and members.any(axis=1).all()


def test_wrong_input_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="models=7"):
        draw_members(7, 50, rng)
    with pytest.raises(ValueError, match="9 records"):
        lira(leaky(0), np.zeros(9, np.int64), task=BINARY, rng=rng)
    with pytest.raises(ValueError, match="the task is regression"):
        log_odds(np.zeros((2, 1)), np.zeros(2), Task(TaskKind.REGRESSION, ("days",)))
    with pytest.raises(ValueError, match="not finite"):
        log_odds(np.full((2, 1), np.nan), np.zeros(2, np.int64), BINARY)
