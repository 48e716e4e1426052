"""The coins of private steps are fair and secret; the mechanism's values are in their ranges."""

import numpy as np
import pytest
from scipy.stats import binom, chi2

from fedcore.privacy.secret_stream import SecretStream, derived_key
from fedcore.training.private.example_noise import ExampleNoise
from fedcore.training.private.noisy_gradients import private_steps
from fedcore.training.private.poisson import poisson_batches

N, STEPS, RATE = 200, 1000, 0.1


def _drawn(name="test", rate=RATE):
    stream = SecretStream(derived_key(bytes(32), name))
    batches = poisson_batches(stream, sampling_rates=np.full(N, rate), steps=STEPS)
    taken = np.zeros((STEPS, N), bool)
    for step, batch in enumerate(batches):
        taken[step, batch.numpy()] = True
    return taken


def _is_binomial(counts, trials, rate):
    """Two-sided at 1e-3 each: their sum, and their spread about the expectation."""
    total = binom.cdf(counts.sum(), trials * len(counts), rate)
    spread = ((counts - trials * rate) ** 2).sum() / (trials * rate * (1 - rate))
    low, high = chi2.ppf([5e-4, 1 - 5e-4], len(counts))
    return bool(5e-4 < total < 1 - 5e-4 and low < spread < high)


def test_batches_are_independent_coins_and_other_samplers_are_seen() -> None:
    taken = _drawn()
    sizes, visits = taken.sum(1), taken.sum(0)
    assert _is_binomial(sizes, N, RATE) and _is_binomial(visits, STEPS, RATE)
    together = (taken[:, :-1] & taken[:, 1:]).sum(0)
    assert _is_binomial(together[::2], STEPS, RATE**2)
    assert not _is_binomial(sizes, N, RATE * 1.03)
    assert not _is_binomial(np.full(STEPS, N * RATE), N, RATE), "batches of one size"
    epochs = np.full(N, STEPS * RATE)
    assert not _is_binomial(epochs, STEPS, RATE), "everyone once an epoch"


def test_rates_of_everyone_and_of_hardly_anyone() -> None:
    assert _drawn(rate=1.0).all()
    assert not _drawn(rate=1e-12).any()


def test_the_streams_of_a_key_are_different_ones() -> None:
    private = ExampleNoise(1.0, 1.0, 0.5, 3)
    ours, same, other = (private_steps(private, bytes([k] * 32), 64) for k in (1, 1, 2))
    assert all(a.equal(b) for a, b in zip(ours.batches, same.batches, strict=True))
    assert ours.seed == same.seed != other.seed
    assert not all(map(np.array_equal, ours.batches, other.batches))
    noise = ours.noise.normal(8)
    assert np.array_equal(noise, same.noise.normal(8))
    plain = SecretStream(bytes([1] * 32)).normal(8)
    assert not np.array_equal(noise, plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip_norm": 0.0}, "clip_norm=0.0 must be positive"),
        ({"clip_norm": float("inf")}, "clip_norm=inf must be positive"),
        ({"noise_multiplier": -0.1}, "noise_multiplier=-0.1 must be at least 0"),
        ({"noise_multiplier": float("nan")}, "noise_multiplier=nan must be at least 0"),
        ({"sampling_rate": 0.0}, "sampling_rate=0.0 must be above 0 and at most 1"),
        ({"sampling_rate": 1.1}, "sampling_rate=1.1 must be above 0 and at most 1"),
        ({"steps": 0}, "steps=0 must be an integer from 1"),
        ({"steps": 2.5}, "steps=2.5 must be an integer from 1"),
        ({"micro_batch": 0}, "micro_batch=0 must be an integer from 1"),
    ],
)
def test_values_out_of_range_are_refused(change, message) -> None:
    values = {"clip_norm": 1.0, "noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 1}
    with pytest.raises(ValueError, match=message):
        ExampleNoise(**{**values, **change})
