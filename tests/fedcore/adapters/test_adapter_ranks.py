"""Cutting, padding and trimming keep products; scaling by rank; what is trained by name."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.adapters.adaptive import choose_ranks
from fedcore.adapters.layers import Layer, layers_of
from fedcore.adapters.ranks import active_rank, cut, cut_factors, pad, pad_factors, trim
from fedcore.adapters.scaling import Scaling

LAYER = Layer("enc.0.query")
SCALINGS = (Scaling(16.0), Scaling(16.0, is_rank_stabilised=True))


def factors(rank, outputs=5, inputs=7, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(rank, inputs)).astype(np.float32)
    return a, rng.normal(size=(outputs, rank)).astype(np.float32)


def test_scalings_by_hand():
    plain, stabilised = SCALINGS
    assert [plain(r) for r in (1, 4, 8)] == [16.0, 4.0, 2.0]
    assert [stabilised(r) for r in (1, 4, 16)] == [16.0, 8.0, 4.0]


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("rank", [1, 3, 6, 8])
def test_a_client_of_a_lower_rank_starts_from_the_product_of_its_directions(scaling, rank):
    a, b = factors(8)
    mine_a, mine_b = cut_factors(a, b, rank, scaling)
    expected = scaling(8) * b[:, :rank].astype(float) @ a[:rank]
    assert np.allclose(scaling(rank) * mine_b.astype(float) @ mine_a, expected, rtol=1e-5)
    assert (mine_a == a[:rank]).all() and mine_b.dtype == np.float32
    wide_a, wide_b = pad_factors(mine_a, mine_b, 8, scaling)
    assert np.allclose(scaling(8) * wide_b.astype(float) @ wide_a, expected, rtol=1e-5)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_the_same_rank_is_the_same_bits(scaling):
    a, b = factors(4)
    for same in (cut_factors(a, b, 4, scaling), pad_factors(a, b, 4, scaling)):
        assert same[0] is a and same[1] is b


def test_whole_models_are_cut_padded_and_trimmed_layer_by_layer():
    a, b = factors(4)
    model = {LAYER.a: a, LAYER.b: b, "head.bias": np.ones(2, np.float32)}
    scaling = SCALINGS[0]
    small = cut(model, 2, scaling)
    assert small[LAYER.a].shape == (2, 7) and small[LAYER.b].shape == (5, 2)
    assert small["head.bias"] is model["head.bias"]
    assert cut(model, 9, scaling)[LAYER.a] is a and cut(model, None, scaling) == model
    wide = pad(small, 4, scaling)
    assert wide[LAYER.a].shape == (4, 7) and active_rank(wide[LAYER.a], wide[LAYER.b]) == 2
    back = trim(wide, scaling)
    assert all(np.array_equal(back[name], small[name]) for name in small)


def test_a_direction_that_only_one_factor_has_is_active():
    a, b = np.zeros((3, 4)), np.zeros((2, 3))
    assert active_rank(a, b) == 1
    a[1, 0] = 1.0
    assert active_rank(a, b) == 2
    b[0, 2] = 1.0
    assert active_rank(a, b) == 3


def test_layers_are_found_by_name_and_half_an_adapter_is_refused():
    names = [LAYER.a, LAYER.b, LAYER.residual, "head.bias"]
    assert LAYER.a == "enc.0.query.lora_A.default.weight"
    assert layers_of(names) == (LAYER,)
    with pytest.raises(ValueError, match=r"layers \['enc.0.query'\] hold one factor"):
        layers_of([LAYER.a])


def energy(spectra, ranks):
    return sum(float(np.square(spectra[name][:rank]).sum()) for name, rank in ranks.items())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.floats(0, 10), min_size=3, max_size=3).map(lambda v: sorted(v, reverse=True)),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 7),
)
def test_with_equal_costs_no_other_ranks_keep_more_energy(values, more):
    spectra = {f"l{i}": np.array(each) for i, each in enumerate(values)}
    budget = len(spectra) + more
    ranks = choose_ranks(spectra, dict.fromkeys(spectra, 1), budget)
    assert sum(ranks.values()) <= budget and min(ranks.values()) >= 1
    best = max(
        energy(spectra, dict(zip(spectra, choice, strict=True)))
        for choice in itertools.product((1, 2, 3), repeat=len(spectra))
        if sum(choice) <= budget
    )
    assert energy(spectra, ranks) == pytest.approx(best, rel=1e-12, abs=1e-12)


def test_a_dear_layer_must_carry_more_and_the_rest_of_the_budget_is_used():
    spectra = {"cheap": np.array([2.0, 1.0, 0.1]), "dear": np.array([2.0, 1.5, 0.1])}
    costs = {"cheap": 2, "dear": 10}
    assert choose_ranks(spectra, costs, 15) == {"cheap": 2, "dear": 1}
    # 1 for 2 parameters comes before 2.25 for 10, which then no longer fit.
    assert choose_ranks(spectra, costs, 22) == {"cheap": 3, "dear": 1}
    assert choose_ranks(spectra, costs, 24) == {"cheap": 2, "dear": 2}
    assert choose_ranks(spectra, costs, 36) == {"cheap": 3, "dear": 3}


def test_a_budget_below_one_direction_each_is_refused():
    with pytest.raises(ValueError, match=r"budget=9 parameters are less than the 10 of one"):
        choose_ranks({"a": np.ones(2), "b": np.ones(2)}, {"a": 5, "b": 5}, 9)
