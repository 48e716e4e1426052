"""Server optimizers against hand-computed steps, their limits, and a quadratic that all solve."""

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from fedcore.strategies.drift import build_drift
from fedcore.strategies.settings import StrategySettings

ADAPTER = TypeAdapter(StrategySettings)
KINDS = ["fedavg", "fedprox", "fedavgm", "fedadagrad", "fedadam", "fedyogi"]


def build(**values):
    return ADAPTER.validate_python(values).build()


def run(algorithm, deltas, start=0.0):
    params = {"w": np.array([start])}
    state = algorithm.init(params)
    for delta in deltas:
        params, state = algorithm.step(params, state, {"w": np.array([delta])})
    return params["w"][0]


# Redone by hand: Reddi et al. 2021, algorithm 2; eta 0.1, tau 0.1, v_0 tau^2, deltas 1, -2.
# adagrad: v 1.01, 5.01; beta_1 0.  adam (beta .9, .99): m .1, -.11; v .0199, .059701.
# yogi: v .01-.01*1*sign(.01-1)=.02; then .02-.01*4*sign(.02-4)=.06.
HAND = [
    ("fedadagrad", {"beta_1": 0.0}, 0.1 / (1.01**0.5 + 0.1) - 0.2 / (5.01**0.5 + 0.1)),
    ("fedadam", {}, 0.01 / (0.0199**0.5 + 0.1) - 0.011 / (0.059701**0.5 + 0.1)),
    ("fedyogi", {}, 0.01 / (0.02**0.5 + 0.1) - 0.011 / (0.06**0.5 + 0.1)),
]


@pytest.mark.parametrize(("kind", "more", "expected"), HAND)
def test_two_steps_equal_hand_computation(kind, more, expected):
    algorithm = build(kind=kind, server_learning_rate=0.1, tau=0.1, **more)
    assert run(algorithm, [1.0, -2.0]) == pytest.approx(expected, rel=1e-12)


def test_momentum_accumulates():
    algorithm = build(kind="fedavgm", momentum=0.5, server_learning_rate=2.0)
    assert run(algorithm, [1.0, 1.0]) == 2.0 * 1.0 + 2.0 * 1.5


@pytest.mark.parametrize("deltas", [[0.3], [1.0, -2.0, 0.25]])
def test_limits(deltas):
    plain = run(build(kind="fedavg"), deltas)
    assert plain == sum(deltas)
    assert run(build(kind="fedavgm", momentum=0.0), deltas) == plain
    assert run(build(kind="fedprox", mu=0.0), deltas) == plain
    # A huge tau makes the adaptive ones SGD with step eta / tau.
    far = {"server_learning_rate": 1e9, "tau": 1e9, "beta_1": 0.0, "initial_second_moment": 0.0}
    for kind in KINDS[3:]:
        assert run(build(kind=kind, **far), deltas) == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_strategy_solves_a_quadratic(kind):
    """Clients with minima 1 and 3, one local step of 0.3 each: the mean minimum is 2."""
    eta = {"fedavgm": 0.2, "fedadagrad": 1.0, "fedadam": 0.2, "fedyogi": 0.2}.get(kind, 1.0)
    algorithm = build(kind=kind, server_learning_rate=eta)
    params = {"w": np.array([10.0])}
    state = algorithm.init(params)
    for _ in range(400):
        delta = np.mean([-0.3 * (params["w"] - minimum) for minimum in (1.0, 3.0)], axis=0)
        params, state = algorithm.step(params, state, {"w": delta})
    assert params["w"][0] == pytest.approx(2.0, abs=0.15)


def test_zero_delta_moves_nothing():
    for kind in KINDS:
        assert run(build(kind=kind), [0.0, 0.0], start=1.5) == 1.5


def test_the_proximal_drift_is_mu_times_the_distance():
    drift = build_drift({"kind": "proximal", "mu": 0.5})
    term = drift({"w": torch.tensor([3.0])}, {"w": torch.tensor([1.0])})
    assert term["w"].item() == 1.0
    assert build_drift({"kind": "none"}) is None
    with pytest.raises(ValueError, match="kind='scaffold' is not known"):
        build_drift({"kind": "scaffold"})


def test_an_unknown_strategy_names_those_that_exist():
    with pytest.raises(ValueError, match="'fedavg', 'fedprox', 'fedavgm', 'fedadagrad'"):
        ADAPTER.validate_python({"kind": "fedsgd"})


def test_a_plugin_that_is_not_installed_is_named():
    with pytest.raises(ValueError, match="name='mine' is not an installed entry point"):
        build(kind="plugin", name="mine")
