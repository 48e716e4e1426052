"""Correlated noise: its matrix, its distribution, what it costs and what it saves."""

import itertools
import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent
from dp_accounting.pld import PLDAccountant

from fedcore.privacy import banded
from fedcore.privacy.accounting import spent
from fedcore.privacy.banded import correlated_noise, prefix_sum_errors, square_root_band
from fedcore.privacy.client_level import Adaptive, ClientMechanism, private_mean
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.secret_stream import SecretStream


def keys(count):
    return [bytes([number]) * 32 for number in range(1, count + 1)]


def dense(band, rounds):
    return sum(np.diag([c] * (rounds - i), -i) for i, c in enumerate(band[:rounds]))


def rows(band, rounds, sizes):
    return np.array([correlated_noise(band, keys(t), sizes) for t in range(1, rounds + 1)])


@pytest.mark.parametrize("bands", [1, 2, 5, 40])
def test_columns_have_norm_one_and_the_square_is_the_prefix_sum(bands):
    band = square_root_band(bands)
    assert math.fsum(c * c for c in band) == pytest.approx(1, abs=1e-15)
    assert all(a > b > 0 for a, b in itertools.pairwise(band))
    raw = dense(np.array(band) / band[0], bands)
    np.testing.assert_allclose(raw @ raw, np.tri(bands), atol=1e-12)


@pytest.mark.parametrize(("bands", "rounds"), [(1, 4), (2, 5), (4, 9), (6, 3)])
def test_noise_is_the_inverse_matrix_times_independent_noise(bands, rounds):
    band, sizes = square_root_band(bands), [3, 4]
    drawn = [SecretStream(key) for key in keys(rounds)]
    z = np.array([np.concatenate([one.normal(size) for size in sizes]) for one in drawn])
    expected = np.linalg.solve(dense(band, rounds), z)
    np.testing.assert_allclose(rows(band, rounds, sizes), expected, atol=1e-12)


def test_with_one_band_it_is_independent_noise_bit_for_bit():
    template = {"a": np.zeros((3, 3), np.float32), "b": np.zeros(5, np.float32)}
    alone = ClientMechanism(0.5, 2.0, 7.0)
    one = ClientMechanism(0.5, 2.0, 7.0, band=square_root_band(1))
    plain, _ = private_mean([], template, alone, keys(3)[-1])
    after, _ = private_mean([], template, one, keys(3)[-1], keys(2))
    assert all(np.array_equal(plain[name], after[name]) for name in template)
    assert one.multipliers(9) == (2.0,)


def test_what_was_drawn_before_changes_no_bit():
    band = square_root_band(3)
    in_turn = rows(band, 7, [5])
    for t in (7, 2, 5, 5, 6):
        assert np.array_equal(correlated_noise(band, keys(t), [5]), in_turn[t - 1])
    banded._latest.clear()
    given = correlated_noise(band, keys(6), [5])
    given[:] = 0  # the caller's own
    assert np.array_equal(correlated_noise(band, keys(7), [5]), in_turn[6])


def test_the_covariance_is_that_of_the_matrix_and_a_wrong_one_would_show():
    band, rounds, size = square_root_band(3), 6, 20_000
    noise = rows(band, rounds, [size])

    def worst(matrix):
        white = matrix @ noise
        return abs(white @ white.T / size - np.eye(rounds)).max()

    bound = 5 * math.sqrt(2 / size)
    assert worst(dense(band, rounds)) < bound
    for wrong in (square_root_band(2), square_root_band(4), (1.0,), np.array(band) * 1.1):
        assert worst(dense(wrong, rounds)) > 2 * bound


def test_participations_a_band_apart_cost_the_root_of_their_number_by_brute_force():
    bands, rounds = 3, 9
    matrix = dense(square_root_band(bands), rounds)
    signs, met = list(itertools.product((-1, 1), repeat=3)), 0.0
    for count in (1, 2, 3):
        for pattern in itertools.combinations(range(rounds), count):
            moved = max(np.linalg.norm(matrix[:, list(pattern)] @ s[:count]) for s in signs)
            if all(b - a >= bands for a, b in itertools.pairwise(pattern)):
                assert moved <= math.sqrt(count) + 1e-12
                met = max(met, moved / math.sqrt(count))
            elif pattern[-1] + bands <= rounds:  # whole columns that overlap
                assert moved > math.sqrt(count) + 1e-3
    assert met == pytest.approx(1)


@pytest.mark.parametrize("adaptive", [None, Adaptive(0.5, 0.2, 3.0)])
def test_no_release_tells_more_of_a_client_than_it_is_charged_for(adaptive):
    """Two runs that differ in one client, with the noise of one: all that differs is the client."""
    band, rng, rounds, first = square_root_band(3), np.random.default_rng(0), 8, 1
    template = {"w": np.zeros(6, np.float32)}
    moved, charged = [], 0.0
    for r in range(rounds):
        clip = float(rng.uniform(0.2, 3))  # it may follow anything that was released
        mechanism = ClientMechanism(clip, 1.3, 5.0, None, adaptive, band)
        others = [({"w": rng.normal(size=6).astype("f")}, 1) for _ in range(2)]
        mine = [({"w": (9 * rng.normal(size=6)).astype("f")}, 1)] * ((r - first) % 3 == 0)
        key, *earlier = keys(r + 1)[::-1]
        near, _ = private_mean([*others, *mine], template, mechanism, key, earlier[::-1])
        far, _ = private_mean(others, template, mechanism, key, earlier[::-1])
        moved.append((near["w"] - far["w"]) * 5.0 / (clip * mechanism.sum_multiplier))
        paid = mechanism.multipliers(r)
        if r >= first:
            ago = (r - first) % 3
            row = sum(c * moved[r - i] for i, c in enumerate(band) if i <= r)
            count = 0.0
            if adaptive and ago == 0:
                count = (0.5 / adaptive.count_stddev) ** 2
            told = np.linalg.norm(row) ** 2 + count
            assert told == pytest.approx(paid[ago] ** -2, rel=1e-6)  # and no less
            charged += paid[ago] ** -2
    assert charged <= 3 / 1.3**2 * (1 + 1e-12)  # three participations, the last one cut off
    assert charged > 2 / 1.3**2


def test_without_noise_nothing_is_promised():
    mechanism = ClientMechanism(1.0, 0.0, 1.0, band=square_root_band(3))
    assert mechanism.multipliers(1) == (0.0, 0.0)


def test_a_participation_costs_one_gaussian_as_dp_accounting_has_it():
    mechanism = ClientMechanism(1.0, 2.5, 1.0, band=square_root_band(4))
    rows_of_five = [SampledGaussian(1.0, noise) for noise in mechanism.multipliers(99)] * 5
    found = spent(rows_of_five, 1e-5)
    whole = spent([SampledGaussian(1.0, 2.5, 5)], 1e-5)
    assert found.prv == pytest.approx(whole.prv, rel=1e-3)
    assert found.rdp == pytest.approx(whole.rdp, rel=1e-3)
    theirs = PLDAccountant(value_discretization_interval=1e-3)
    theirs.compose(GaussianDpEvent(2.5), 5)
    assert found.prv == pytest.approx(theirs.get_epsilon(1e-5), rel=2e-3)


def test_sums_over_rounds_have_less_noise_for_the_same_epsilon():
    for bands, rounds in ((4, 16), (8, 64), (10, 100)):
        band = square_root_band(bands)
        errors, alone = prefix_sum_errors(band, rounds), prefix_sum_errors((1.0,), rounds)
        expected = np.tri(rounds) @ np.linalg.inv(dense(band, rounds))
        np.testing.assert_allclose(errors, np.linalg.norm(expected, axis=1), rtol=1e-9)
        np.testing.assert_allclose(alone, np.sqrt(np.arange(1, rounds + 1)))
        assert (errors[3:] < alone[3:]).all()
    assert np.sqrt(np.mean(errors**2)) < 0.45 * np.sqrt(np.mean(alone**2))


def test_more_bands_leave_less_noise():
    last = [prefix_sum_errors(square_root_band(bands), 64)[-1] for bands in (1, 2, 4, 8, 16, 32)]
    assert last == sorted(last, reverse=True)
