"""The weighted mean: its value, its canonical order, and what it refuses."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.aggregation import GROUP, canonical_mean


def exact(values, weights):
    total = sum(
        Fraction(float(v)) * Fraction(float(w)) for v, w in zip(values, weights, strict=True)
    )
    return float(total / sum(Fraction(float(w)) for w in weights))


@given(
    st.lists(
        st.tuples(st.floats(-1e6, 1e6, width=32), st.integers(min_value=1, max_value=10_000)),
        min_size=1,
        max_size=200,
    )
)
def test_equals_exact_rational_arithmetic(pairs):
    mean = canonical_mean([({"w": np.array([v], np.float32)}, float(n)) for v, n in pairs])
    scale = max(abs(v) for v, _ in pairs) + 1
    assert abs(mean["w"][0] - exact(*zip(*pairs, strict=True))) <= 1e-12 * scale


def test_groups_are_added_as_groups():
    """One value of 2^53 and many ones: only the grouped order keeps the later ones."""
    values = [2.0**53] + [1.0] * (2 * GROUP - 1)
    mean = canonical_mean([({"w": np.array([v])}, 1.0) for v in values])["w"][0]
    first = 0.0
    for v in values[:GROUP]:
        first += v
    assert mean == (first + float(GROUP)) / (2 * GROUP)
    straight = 0.0
    for v in values:
        straight += v
    assert mean != straight / (2 * GROUP)


def test_one_client_is_itself_and_weights_scale_out():
    update = {"w": np.array([0.1, -7.0], np.float32)}
    np.testing.assert_allclose(canonical_mean([(update, 3.0)])["w"], update["w"], rtol=1e-15)
    twice = [(update, 2.0), ({"w": -update["w"]}, 6.0)]
    once = [(update, 1.0), ({"w": -update["w"]}, 3.0)]
    assert (canonical_mean(twice)["w"] == canonical_mean(once)["w"]).all()


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_wrong_weight_is_refused(weight):
    with pytest.raises(ValueError, match="must be finite and >= 0"):
        canonical_mean([({"w": np.ones(1)}, weight)])


@pytest.mark.parametrize("updates", [[], [({"w": np.ones(1)}, 0.0)]])
def test_nothing_to_average_is_refused(updates):
    with pytest.raises(ValueError, match="nothing to average"):
        canonical_mean(updates)
