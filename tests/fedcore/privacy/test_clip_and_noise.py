"""Clipping holds its bound exactly, and a site's noise is Gaussian, repeatable and its own."""

import hashlib
import hmac

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kstest

from fedcore.privacy.clip_and_noise import clipped, l2_norm, noised
from fedcore.privacy.secret_stream import SecretStream, derived_key, hashed

SECRET = bytes(range(32))
FLOATS = st.floats(-(2.0**66), 2.0**66, width=32)


@settings(max_examples=20, deadline=None)
@given(arrays(np.float32, (3, 4), elements=FLOATS), st.floats(1e-6, 1e6))
def test_the_norm_is_never_over_its_bound(values, clip_norm):
    delta = {"a": values, "b": values[0].astype(np.float16 if abs(values).max() < 6e4 else "f4")}
    after = clipped(delta, clip_norm)
    assert l2_norm(after) <= clip_norm
    assert {name: (one.dtype, one.shape) for name, one in after.items()} == {
        name: (one.dtype, one.shape) for name, one in delta.items()
    }
    if l2_norm(delta) <= clip_norm:
        assert all(np.array_equal(after[name], delta[name]) for name in delta)


@pytest.mark.parametrize("clip_norm", [1e-3, 1.0, 7.3])
def test_what_is_too_long_keeps_its_direction_and_gets_the_norm(clip_norm):
    rng = np.random.default_rng(3)
    delta = {"a": rng.normal(size=(40, 5)).astype(np.float32), "b": np.ones(7, np.float32)}
    after = clipped(delta, clip_norm)
    flat = np.concatenate([delta["a"].ravel(), delta["b"]]).astype(np.float64)
    expected = flat * (clip_norm / np.linalg.norm(flat))
    found = np.concatenate([after["a"].ravel(), after["b"]]).astype(np.float64)
    assert np.allclose(found, expected, rtol=2e-6, atol=0)
    assert l2_norm(after) == pytest.approx(clip_norm, rel=2e-6)


@pytest.mark.parametrize("value", [1e200, 1e40])
def test_a_norm_beyond_float32_is_refused(value):
    with pytest.raises(ValueError, match="clip_norm=1 is too far below the norm"):
        clipped({"a": np.full(2, value)}, 1.0)


def test_the_key_stream_is_chacha20():
    # RFC 8439, appendix A.1, test vector 1: key, nonce and counter zero.
    expected = "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
    assert SecretStream(bytes(32)).bytes(32).hex() == expected


def test_keys_are_hkdf_of_the_names():
    # RFC 5869 by hand: no salt, one block.
    pseudo_random = hmac.new(bytes(32), SECRET, hashlib.sha256).digest()
    info = b'["fedloom site","noise",0.5,null]'
    expected = hmac.new(pseudo_random, info + b"\x01", hashlib.sha256).digest()
    assert derived_key(SECRET, "noise", 0.5, None) == expected
    assert derived_key(SECRET, "noise", 0.6, None) != expected
    with pytest.raises(ValueError, match=r"secret has 5 bytes; a site's secret has 32\."):
        derived_key(b"short")


def test_normal_numbers_are_normal_and_a_wrong_scale_is_seen():
    drawn = SecretStream(derived_key(SECRET, "test")).normal(20_001)
    assert drawn.shape == (20_001,) and kstest(drawn, "norm").pvalue > 0.01
    for wrong in (2 / 3, 3 / 2):
        assert kstest(drawn * wrong, "norm").pvalue < 1e-6
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.03  # cosine and sine of a pair too


def test_uniform_numbers_are_uniform_and_in_their_interval():
    drawn = SecretStream(derived_key(SECRET, "test")).uniform(20_001)
    assert drawn.min() >= 0 and drawn.max() < 1 and (drawn * 2.0**53 % 1 == 0).all()
    assert kstest(drawn, "uniform").pvalue > 0.01
    assert kstest(drawn**1.05, "uniform").pvalue < 1e-6


def test_parts_do_not_change_the_numbers(monkeypatch):
    whole = SecretStream(bytes(32)).normal(999)
    monkeypatch.setattr("fedcore.privacy.secret_stream._PAIRS", 16)
    assert np.array_equal(SecretStream(bytes(32)).normal(999), whole)


def test_noise_has_its_scale_on_every_tensor_and_its_dtype():
    delta = {"a": np.full((100, 50), 5.0, np.float32), "b": np.zeros(5000, np.float64)}
    after = noised(delta, 0.25, SecretStream(derived_key(SECRET, "x")))
    for name in delta:
        assert after[name].dtype == delta[name].dtype and after[name].shape == delta[name].shape
        noise = (after[name].astype(np.float64) - delta[name]).ravel()
        assert kstest(noise / 0.25, "norm").pvalue > 0.01
        assert kstest(noise / 0.375, "norm").pvalue < 1e-6
    first, second = after["a"].ravel()[:5000] - 5.0, after["b"]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


def test_a_name_is_known_by_its_fingerprint_to_the_key_only():
    key = derived_key(SECRET, "identifiers", "run-1")
    assert hashed(key, "scan-17.png") == hashed(key, "scan-17.png")
    assert len(hashed(key, "\ud800")) == 32
    assert hashed(derived_key(SECRET, "identifiers", "run-2"), "scan-17.png") != hashed(
        key, "scan-17.png"
    )
