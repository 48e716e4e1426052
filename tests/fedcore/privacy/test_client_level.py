import math

import numpy as np
import pytest

from fedcore.privacy.client_level import Adaptive, ClientMechanism, private_mean

TEMPLATE = {"a": np.zeros((3, 2), np.float32), "b": np.zeros(4, np.float32)}
KEY = b"k" * 32


def update(seed, scale=1.0, num_examples=10):
    rng = np.random.default_rng(seed)
    arrays = {n: (scale * rng.normal(size=v.shape)).astype("f") for n, v in TEMPLATE.items()}
    return arrays, num_examples


def flat(arrays):
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


def mean_of(updates, mechanism, key=KEY):
    return private_mean(updates, TEMPLATE, mechanism, key)[0]


def test_without_noise_and_with_a_wide_clip_it_is_the_plain_sum_over_the_denominator():
    updates = [update(seed) for seed in range(5)]
    got = mean_of(updates, ClientMechanism(1e6, 0.0, 5.0))
    expected = np.mean([flat(arrays).astype(np.float64) for arrays, _ in updates], axis=0)
    np.testing.assert_allclose(flat(got), expected, rtol=1e-12)


@pytest.mark.parametrize("cap", [None, 40])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_one_client_moves_the_sum_by_no_more_than_the_clip_norm(cap, scale):
    others = [update(seed, num_examples=20) for seed in range(4)]
    more = [*others, update(99, scale, num_examples=10**6)]
    mechanism = ClientMechanism(0.7, 1.0, 4.0, cap)
    moved = flat(mean_of(more, mechanism)) - flat(mean_of(others, mechanism))
    assert np.linalg.norm(moved) * mechanism.denominator <= 0.7 * (1 + 1e-12)
    if scale == 1e6:  # the bound is met
        assert np.linalg.norm(moved) * mechanism.denominator == pytest.approx(0.7)


def test_the_denominator_does_not_follow_those_who_came():
    mechanism = ClientMechanism(1e6, 0.0, 8.0)
    one, two = update(1), update(2)
    alone, both = mean_of([one], mechanism), mean_of([one, two], mechanism)
    np.testing.assert_allclose(flat(both) - flat(alone), flat(two[0]).astype(float) / 8)


def test_nobody_gives_noise_alone_of_the_promised_size():
    template = {"w": np.zeros(40_000, np.float32)}
    mean, _ = private_mean([], template, ClientMechanism(0.5, 3.0, 10.0), KEY)
    # chi-square: the standard deviation of an estimate from n values is 1 / sqrt(2 n)
    assert mean["w"].std() == pytest.approx(3.0 * 0.5 / 10, rel=5 / math.sqrt(2 * 40_000))
    assert abs(mean["w"].mean()) < 5 * 0.15 / math.sqrt(40_000)


def test_noise_is_of_the_key():
    mechanism = ClientMechanism(1.0, 1.0, 1.0)
    assert np.array_equal(flat(mean_of([], mechanism)), flat(mean_of([], mechanism)))
    other = mean_of([], mechanism, b"o" * 32)
    assert not np.intersect1d(flat(mean_of([], mechanism)), flat(other)).size


def test_weights_are_capped():
    mechanism = ClientMechanism(1e6, 0.0, 1.0, examples_cap=100)
    assert [mechanism.weight(n) for n in (0, 25, 100, 10**9)] == [0, 0.25, 1, 1]
    arrays, _ = update(3)
    np.testing.assert_allclose(flat(mean_of([(arrays, 25)], mechanism)), flat(arrays) / 4.0)


def test_an_update_of_zeros_is_kept():
    zeros = {name: np.zeros_like(value) for name, value in TEMPLATE.items()}
    assert not flat(mean_of([(zeros, 1)], ClientMechanism(1.0, 0.0, 1.0))).any()


def test_the_adaptive_clip_norm_follows_the_quantile():
    norms = np.geomspace(0.01, 100, 201)
    updates = [({"w": np.array([norm], np.float32)}, 1) for norm in norms]
    template, clip = {"w": np.zeros(1, np.float32)}, 50.0
    for step in range(60):
        mechanism = ClientMechanism(clip, 0.1, 201.0, None, Adaptive(0.5, 0.5, 10.0))
        _, clip = private_mean(updates, template, mechanism, bytes([step]) * 32)
    assert np.mean(norms <= clip) == pytest.approx(0.5, abs=0.1)  # of any start


def test_the_count_of_the_adaptive_clip_norm_is_paid_for():
    """Andrew et al. 2021, theorem 1: both noises together are worth the promised multiplier."""
    z, count = 1.3, 4.0
    mechanism = ClientMechanism(1.0, z, 100.0, None, Adaptive(0.5, 0.2, count))
    assert mechanism.sum_multiplier > z
    # Two Gaussians of sensitivities 1 and 1/2 are one of sensitivity sqrt(1/a^2 + (1/2b)^2).
    worth = (mechanism.sum_multiplier**-2 + (0.5 / count) ** 2) ** -0.5
    assert worth == pytest.approx(z)
    with pytest.raises(ValueError, match=r"count_stddev=0\.5 must be more than half"):
        _ = ClientMechanism(1.0, z, 1.0, None, Adaptive(0.5, 0.2, 0.5)).sum_multiplier


def test_the_clip_norm_stays_finite_when_nobody_is_ever_shorter():
    mechanism = ClientMechanism(2.0**60, 0.0, 1.0, None, Adaptive(1.0, 2.0, 1e-9))
    _, clip = private_mean([], {"w": np.zeros(1, np.float32)}, mechanism, KEY)
    assert 0 < clip <= 2.0**60
