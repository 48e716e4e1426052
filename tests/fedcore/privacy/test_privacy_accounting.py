"""What events cost, against dp-accounting, Opacus, closed forms and laws."""

import itertools
import math

import numpy as np
import pytest
from dp_accounting import NeighboringRelation  # missing: `make install` puts it in
from scipy.optimize import brentq
from scipy.stats import norm

from benchmarks.privacy_accounting import SETTINGS, renyi, tight
from fedcore.privacy import epsilon
from fedcore.privacy.accounting import NOTHING, Epsilon, bound, over_disjoint, spent
from fedcore.privacy.dominating import Pair
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.rdp import ORDERS, divergences

# (sampling rate, noise multiplier, steps, delta), PLD, RDP, PLD for a replaced record: what
# `python -m benchmarks.privacy_accounting` printed with dp-accounting 0.6.0.
GRID = [
    ((1.0, 1.0, 1, 1e-05), 4.37718, 4.72851, 9.99726),
    ((0.004266666666666667, 1.1, 14400, 1e-05), 2.41282, 2.63022, 4.27957),
    ((0.004, 1.1, 14400, 1e-05), 2.24466, 2.44819, 3.97365),
    ((0.034133333333333335, 2.15, 1172, 1e-05), 2.38952, 2.60548, 4.82363),
    ((0.05, 1.2, 200, 0.0001), 2.83958, 3.23414, 4.76798),
    ((0.05, 0.8, 20, 1e-05), 3.37993, 4.15306, 3.77439),
    ((0.02, 1.5, 3000, 1e-05), 3.57542, 3.88830, 6.91690),
    ((0.01, 0.7, 100, 1e-05), 2.36734, 3.14815, 2.50803),
    ((0.01, 1.0, 10000, 1e-06), 6.90742, 7.41410, 11.95688),
    ((0.004, 0.6, 1000, 1e-05), 3.65070, 4.58036, 3.98427),
    ((0.01, 4.0, 1000, 1e-07), 0.36129, 0.38818, 0.72622),
    ((0.25, 10.0, 500, 1e-05), 2.27777, 2.47525, 4.97801),
    ((1.0, 5.0, 100, 1e-05), 9.99726, 10.72551, 24.38161),
    ((1.0, 20.0, 1000, 1e-06), 8.30623, 8.84687, 19.42366),
    ((1.0, 50.0, 10, 1e-05), 0.20681, 0.22882, 0.44007),
    ((0.5, 4.0, 100, 1e-05), 5.86872, 6.37082, 13.07823),
    ((0.2, 2.0, 50, 0.001), 2.35547, 2.73553, 4.76253),
    ((0.1, 1.0, 100, 0.01), 3.43480, 4.32792, 6.05599),
    ((0.1, 2.0, 1000, 1e-05), 8.27929, 8.94696, 17.68514),
    ((0.3, 0.5, 5, 0.0001), 14.25917, 16.41663, 15.91433),
]


def gaussian_epsilon(mu, delta):
    """Balle and Wang 2018, theorem 8: a Gaussian sum whose means are mu deviations apart."""

    def excess(e):
        return norm.cdf(mu / 2 - e / mu) - math.exp(e + norm.logcdf(-mu / 2 - e / mu)) - delta

    return brentq(excess, 0, mu * mu + 40 * mu, xtol=1e-16)


def one_step_delta(epsilon, rate, noise):
    """Hockey-stick divergence of one sampled step against removal, from its definition."""
    z = noise**2 * math.log((math.exp(epsilon) - 1 + rate) / rate) + 0.5
    above, shifted = norm.sf(z / noise), norm.sf((z - 1) / noise)
    return (1 - rate) * above + rate * shifted - math.exp(epsilon) * above


@pytest.mark.parametrize(("setting", "pld", "rdp", "replaced"), GRID, ids=lambda v: str(v))
def test_epsilon_is_that_of_dp_accounting(setting, pld, rdp, replaced):
    rate, noise, steps, delta = setting
    found = epsilon(rate, noise, steps, delta)
    assert 0.995 * pld <= found.value <= 1.02 * rdp
    assert found.prv == pytest.approx(pld, rel=2e-3)
    assert 0.985 * rdp <= found.rdp <= 1.002 * rdp  # our orders are more


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "pld", "rdp", "replaced"), GRID, ids=lambda v: str(v))
def test_epsilon_of_a_replaced_record_is_that_of_dp_accounting(setting, pld, rdp, replaced):
    rate, noise, steps, delta = setting
    found = spent([SampledGaussian(rate, noise, steps)], delta, "replace_one")
    assert found.prv == pytest.approx(replaced, rel=2e-3)
    assert found.value > pld
    assert found.rdp >= found.prv


def test_the_table_is_of_the_settings():
    assert [row[0] for row in GRID] == list(SETTINGS) and len(GRID) == 20


@pytest.mark.parametrize("index", [0, 11])
def test_the_table_is_what_dp_accounting_says(index):
    setting, pld, rdp, _ = GRID[index]
    assert tight(*setting, is_replaced=False) == pytest.approx(pld, abs=1e-5)
    assert renyi(*setting) == pytest.approx(rdp, abs=1e-5)
    assert NeighboringRelation.REPLACE_ONE


@pytest.mark.slow
@pytest.mark.parametrize("index", [3, 4, 14, 16])
def test_more_of_the_table_is_what_dp_accounting_says(index):
    setting, pld, rdp, replaced = GRID[index]
    assert tight(*setting, is_replaced=False) == pytest.approx(pld, abs=1e-5)
    assert tight(*setting, is_replaced=True) == pytest.approx(replaced, abs=1e-5)
    assert renyi(*setting) == pytest.approx(rdp, abs=1e-5)


@pytest.mark.slow
def test_epsilon_is_that_of_opacus():
    from opacus.accountants import PRVAccountant
    from opacus.accountants.analysis.rdp import compute_rdp

    for rate, noise, steps, delta in [SETTINGS[3], SETTINGS[4], SETTINGS[18]]:
        accountant = PRVAccountant()
        accountant.history = [(noise, rate, steps)]
        theirs = accountant.get_epsilon(delta, eps_error=0.01)
        assert theirs - 0.021 <= epsilon(rate, noise, steps, delta).prv <= theirs + 1e-3
        whole = [2.0, 3.0, 8.0, 40.0]
        rdp = compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=whole)
        ours = np.interp(whole, ORDERS, divergences(Pair(rate, noise, False)))
        np.testing.assert_allclose(ours, rdp, rtol=1e-2)  # between two orders


def test_sigma_two_fifteen_costs_what_was_published_then_and_less_now():
    found = epsilon(2048 / 60_000, 2.15, 1172, 1e-5)
    assert (round(found.rdp, 2), round(found.prv, 2)) == (2.61, 2.39)
    total = 1172 * divergences(Pair(2048 / 60_000, 2.15, False))
    assert round(float(np.min(total + math.log(1e5) / (ORDERS - 1))), 1) == 3.0


@pytest.mark.parametrize(
    ("noise", "steps", "delta"),
    [(5, 100, 1e-5), (0.5, 3, 1e-9), (1000, 7, 1e-5), (1e6, 1, 1e-12), (0.05, 2, 1e-5)],
)
def test_without_sampling_it_is_the_exact_gaussian(noise, steps, delta):
    exact = gaussian_epsilon(math.sqrt(steps) / noise, delta)
    assert exact * (1 - 1e-9) <= epsilon(1.0, noise, steps, delta).prv <= exact * 1.001
    twice = gaussian_epsilon(2 * math.sqrt(steps) / noise, delta)
    event = SampledGaussian(1.0, noise, steps)
    assert twice * (1 - 1e-9) <= bound([event], delta, "replace_one") <= twice * 1.001


@pytest.mark.parametrize(
    ("rate", "noise", "delta"),
    [(0.2, 1.0, 1e-5), (1e-4, 0.6, 1e-5), (0.0075, 3.8, 2.8e-4), (1e-3, 1.0, 1e-6)],
)
def test_one_sampled_step_is_exact(rate, noise, delta):
    exact = brentq(lambda e: one_step_delta(e, rate, noise) - delta, 1e-12, 20, xtol=1e-14)
    assert exact * (1 - 1e-6) <= epsilon(rate, noise, 1, delta).prv <= exact * 1.005


def test_nothing_is_harder_to_hide_than_an_opposite_record():
    """The dominating pair of ``replace_one``, against records of other angles and lengths."""
    rate, noise, gamma = 0.3, 0.8, 1.7
    axis = np.linspace(-7, 7, 241)
    x, y = np.meshgrid(axis, axis)

    def density(a, b):
        apart = ((x - a) ** 2 + (y - b) ** 2) / (2 * noise**2)
        return np.exp(-apart) / (2 * math.pi * noise**2) * (axis[1] - axis[0]) ** 2

    def divergence(length, other, angle):
        mine = density(length, 0)
        theirs = density(other * math.cos(angle), other * math.sin(angle))
        none = (1 - rate) * density(0, 0)
        return np.maximum(none + rate * mine - gamma * (none + rate * theirs), 0).sum()

    worst = divergence(1, 1, math.pi)
    for length, other, angle in itertools.product([0.3, 1], [0.3, 1], [0, 1, 2, 3, math.pi]):
        assert divergence(length, other, angle) <= worst + 1e-12
    e = math.log(gamma)
    z = Pair(rate, noise, True).outcome(np.array([e, np.inf]))
    log_p, log_q = Pair(rate, noise, True).log_masses(z)
    assert worst == pytest.approx(math.exp(log_p[0]) - gamma * math.exp(log_q[0]), abs=1e-5)


def test_two_rounds_of_ten_steps_are_twenty_steps_in_any_order():
    ten = SampledGaussian(0.05, 1.2, 10)
    other = SampledGaussian(0.2, 4.0, 7)
    assert spent([ten, ten], 1e-5) == epsilon(0.05, 1.2, 20, 1e-5)
    assert spent([ten, other, ten], 1e-5) == spent([other, SampledGaussian(0.05, 1.2, 20)], 1e-5)
    split = [SampledGaussian(0.05, 1.2 + 1e-12, 10), ten]  # the composition, not the sum of steps
    assert spent(split, 1e-5).prv == pytest.approx(epsilon(0.05, 1.2, 20, 1e-5).prv, rel=1e-6)


def test_different_events_compose():
    from dp_accounting.pld import PLDAccountant

    from benchmarks.privacy_accounting import composed

    events = [(0.1, 2.0, 30), (1.0, 9.0, 5), (0.02, 1.0, 50)]
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    for event in events:
        accountant.compose(composed(*event))
    theirs = accountant.get_epsilon(1e-5)
    found = spent([SampledGaussian(*event) for event in events], 1e-5)
    assert 0.99 * theirs <= found.prv <= 1.001 * theirs
    # Gaussians alone: their exact sum.
    mu = math.sqrt(5 / 81 + 3 / 16)
    plain = spent([SampledGaussian(1.0, 9.0, 5), SampledGaussian(1.0, 4.0, 3)], 1e-6)
    assert plain.prv == pytest.approx(gaussian_epsilon(mu, 1e-6), rel=1e-3)


@pytest.mark.parametrize(
    "cheaper_first",
    [
        [(0.05, 1.2, steps, 1e-5) for steps in (1, 2, 20, 200)],
        [(0.05, noise, 20, 1e-5) for noise in (100, 4, 1.2, 0.6)],
        [(rate, 1.2, 20, 1e-5) for rate in (0, 1e-4, 0.05, 0.5, 1)],
        [(0.05, 1.2, 20, delta) for delta in (0.5, 1e-2, 1e-5, 1e-12, 1e-60)],
    ],
    ids=["steps", "noise", "rate", "delta"],
)
def test_more_costs_more(cheaper_first):
    costs = [epsilon(*setting) for setting in cheaper_first]
    for less, more in itertools.pairwise(costs):
        assert less.value <= more.value and less.rdp <= more.rdp
    assert all(each.prv <= each.rdp * (1 + 1e-6) for each in costs)


def test_no_noise_is_no_privacy():
    assert epsilon(0.001, 0.0, 1, 1e-5) == Epsilon(math.inf, math.inf)
    some = SampledGaussian(0.1, 5.0, 10)
    assert spent([some, SampledGaussian(1e-6, 0, 1)], 0.5).value == math.inf
    assert bound([SampledGaussian(1, 0.0)], 1e-5, "replace_one") == math.inf


def test_nobody_sampled_costs_nothing():
    assert epsilon(0.0, 0.0, 100, 1e-5) == NOTHING == spent([], 1e-5)
    some = SampledGaussian(0.1, 5.0, 10)
    assert spent([some, SampledGaussian(0, 1.0, 10**6)], 1e-5) == spent([some], 1e-5)


def test_the_ends_of_the_range_give_bounds():
    assert epsilon(1.0, 1e6, 1, 1e-5).value < 1e-5
    assert epsilon(1.0, 1e6, 1, 0.999).value == 0
    assert epsilon(1.0, 1e-3, 5, 1e-5).value == pytest.approx(5 / 2e-6, rel=0.01)
    assert epsilon(0.3, 1e-3, 5, 1e-5).value >= 4e5
    tiny = epsilon(0.01, 1.0, 1000, 1e-100)
    assert 20 < tiny.value < math.inf and tiny.prv <= tiny.rdp


def test_over_disjoint_owners_the_largest_counts():
    owners = [Epsilon(3.0, 2.8), Epsilon(4.0, 3.9), Epsilon(1.0, 0.9)]
    assert over_disjoint(owners) == Epsilon(4.0, 3.9)
    assert over_disjoint([]) == NOTHING


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, 2, math.nan])
def test_delta_out_of_bounds_is_refused(delta):
    with pytest.raises(ValueError, match=r"delta=.* must be above 0 and below 1; take at most"):
        epsilon(0.1, 1.0, 1, delta)


def test_other_neighbours_are_refused():
    with pytest.raises(ValueError, match=r"neighbours='zero_out' must be one of add_or_remove"):
        spent([], 1e-5, "zero_out")


def test_a_sample_of_fixed_size_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"'fixed_size' cannot.*Draw Poisson samples, or let ever"):
        SampledGaussian(0.1, 1.0, 100, sampler="fixed_size")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sampling_rate", 1.1),
        ("sampling_rate", -0.1),
        ("sampling_rate", math.nan),
        ("sampling_rate", True),
        ("sampling_rate", "0.1"),
        ("noise_multiplier", -1),
        ("noise_multiplier", math.inf),
        ("steps", 0),
        ("steps", 1.0),
        ("steps", True),
        ("steps", 10**9),
    ],
)
def test_events_out_of_bounds_are_refused(field, value):
    event = SampledGaussian(0.1, 1.0, 3)
    with pytest.raises(ValueError, match=f"{field}=.*must be a "):
        SampledGaussian.from_json(event.to_json() | {field: value})


def test_events_go_through_json():
    event = SampledGaussian(1 / 3, 1.1, 7)
    assert SampledGaussian.from_json(event.to_json()) == event
    for broken in (None, [], {}, event.to_json() | {"more": 1}):
        with pytest.raises(ValueError, match="must have the fields noise_multiplier, sampler,"):
            SampledGaussian.from_json(broken)
