"""The least noise for a promise, and promises of groups."""

import pytest

from fedcore.privacy import calibrate, epsilon
from fedcore.privacy.accounting import bound, spent
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.personal import affordable_rate, personal_clips, personal_rates

STRICT_AND_LAX = {"strict": 1.0, "lax": 3.0}
SIZES = {"strict": 700, "lax": 300}


@pytest.mark.parametrize(
    ("target", "delta", "rate", "steps", "noise"),
    [
        (3.0, 1e-5, 1.0, 1, 1.3907),
        (20.0, 1e-5, 1.0, 100, 2.9011),
        (2.39, 1e-5, 2048 / 60_000, 1172, 2.1501),
        (0.1, 1e-7, 0.01, 1000, 13.1554),
    ],
)
def test_it_is_the_smallest_noise_of_four_decimals(target, delta, rate, steps, noise):
    found = calibrate(target, delta, rate, steps)
    assert found == noise
    assert epsilon(rate, found, steps, delta).value <= target
    assert bound([SampledGaussian(rate, found - 1e-4, steps)], delta) > target


def test_a_replaced_record_needs_twice_the_noise_without_sampling():
    once = calibrate(3.0, 1e-5, 1.0, 10)
    assert calibrate(3.0, 1e-5, 1.0, 10, "replace_one") == pytest.approx(2 * once, abs=2e-4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.0, 1e-5, 0.1, 1), "epsilon=0.0 must be above 0 and finite"),
        ((float("inf"), 1e-5, 0.1, 1), "epsilon=inf must be above 0"),
        ((1.0, 1e-5, 0.0, 1), "sample_rate=0.0 must be above 0"),
        ((1.0, 0.0, 0.1, 1), "delta=0.0 must be above 0"),
        ((1.0, 1e-5, 0.1, 0), "steps=0 must be a whole number"),
        ((1e-6, 1e-9, 1.0, 10**6), "needs a noise multiplier above 1e"),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        calibrate(*values)


def test_a_rate_is_the_largest_affordable():
    rate = affordable_rate(3.0, 1e-5, 2.0, 50)
    assert bound([SampledGaussian(rate, 2.0, 50)], 1e-5) <= 3.0
    assert bound([SampledGaussian(rate + 2e-5, 2.0, 50)], 1e-5) > 3.0
    assert affordable_rate(100.0, 1e-5, 5.0, 1) == 1.0
    assert affordable_rate(1e-6, 1e-9, 0.5, 1000) == 0.0


@pytest.mark.slow
def test_groups_take_part_as_often_as_each_allows():
    found = personal_rates(STRICT_AND_LAX, SIZES, 1e-5, 0.1, 20)
    rates = found.sampling_rates
    for group, promised in STRICT_AND_LAX.items():
        event = SampledGaussian(rates[group], found.noise_multiplier, 20)
        assert 0.99 * promised <= spent([event], 1e-5).value <= promised
    mean = sum(SIZES[group] * rate for group, rate in rates.items()) / 1000
    assert 0.0995 <= mean <= 0.1
    # Between what the strictest and the laxest would need alone.
    assert calibrate(3.0, 1e-5, 0.1, 20) < found.noise_multiplier < calibrate(1.0, 1e-5, 0.1, 20)


def test_equal_groups_take_part_alike():
    found = personal_rates({"a": 2.0, "b": 2.0}, {"a": 5, "b": 9}, 1e-5, 0.2, 5)
    assert found.noise_multiplier == calibrate(2.0, 1e-5, 0.2, 5)
    assert found.sampling_rates == {"a": 0.2, "b": 0.2}


def test_groups_count_for_as_much_as_each_allows():
    found = personal_clips(STRICT_AND_LAX, SIZES, 1e-5, 0.1, 20, clip_norm=2.0)
    for group, promised in STRICT_AND_LAX.items():
        noise = 2.0 * found.noise_multiplier / found.clip_norms[group]
        assert noise == pytest.approx(found.noise_multipliers[group])
        event = SampledGaussian(0.1, found.noise_multipliers[group], 20)
        assert spent([event], 1e-5).value <= promised
    mean = sum(SIZES[group] * clip for group, clip in found.clip_norms.items()) / 1000
    assert mean == pytest.approx(2.0, rel=1e-4)


def test_groups_need_a_budget_and_a_size_each():
    with pytest.raises(ValueError, match=r"groups \['a'\] and sizes for \['b'\]; each group needs"):
        personal_clips({"a": 1.0}, {"b": 1}, 1e-5, 0.1, 1, 1.0)
    with pytest.raises(ValueError, match="group 'a' has 0 records; leave out empty groups"):
        personal_rates({"a": 1.0}, {"a": 0}, 1e-5, 0.1, 1)
