"""The promises of every rule for adapters: one table, the same laws for each."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.adapters.combine import combine
from fedcore.adapters.layers import Layer, layers_of
from fedcore.adapters.ranks import cut
from fedcore.adapters.scaling import Scaling
from fedcore.adapters.server import AdapterRound, fresh
from fedcore.adapters.settings import Alternating, FrozenA, Mean, Residual, Stacking, Svd
from fedcore.aggregation import canonical_mean
from fedcore.models.parts import part_of

RULES = {
    "mean": Mean(),
    "frozen-a": FrozenA(),
    "alternating": Alternating(),
    "stacking": Stacking(),
    "residual": Residual(),
    "svd": Svd(),
    "svd-budget": Svd(budget=0.6),
}
EXACT = ("frozen-a", "alternating", "stacking", "residual")
RANK = 4
CASES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**31),
        "shapes": st.lists(st.tuples(st.integers(5, 9), st.integers(5, 9)), min_size=1, max_size=3),
        "ranks": st.lists(st.integers(1, RANK), min_size=1, max_size=4),
        "alpha": st.sampled_from([0.5, 4.0, 16.0]),
        "rslora": st.booleans(),
        "round": st.integers(1, 2),
    }
)
every_rule = pytest.mark.parametrize("name", RULES)
some = settings(max_examples=10, deadline=None)


class Round:
    """An invented round: (outputs, inputs) of each layer, a rank for each client."""

    def __init__(self, name, *, seed, shapes, ranks, alpha=8.0, rslora=False, round=2):
        rng = np.random.default_rng(seed)
        self.rule = RULES[name].build()
        self.scaling = Scaling(alpha, rslora)
        self.how = AdapterRound(self.rule, self.scaling, RANK, round, seed)
        self.anchor = {"head.bias": rng.normal(size=3).astype(np.float32)}
        for number, (outputs, inputs) in enumerate(shapes):
            layer = Layer(f"block.{number}.query")
            self.anchor[layer.a] = rng.normal(size=(RANK, inputs)).astype(np.float32)
            self.anchor[layer.b] = rng.normal(size=(outputs, RANK)).astype(np.float32)
        parts = {"head", *self.rule.trains(round)}
        self.trained = {name for name in self.anchor if part_of(name) in parts}
        self.starts = [cut(self.anchor, rank, self.scaling) for rank in ranks]
        self.deltas = [
            {n: rng.normal(size=start[n].shape).astype(np.float32) for n in sorted(self.trained)}
            for start in self.starts
        ]
        self.weights = [float(w) for w in rng.integers(1, 50, len(ranks))]

    def combined(self, order=None, factor=1.0):
        order = range(len(self.deltas)) if order is None else order
        updates = [(self.deltas[k], factor * self.weights[k]) for k in order]
        self.base = self.how.base(self.anchor)
        return self.how.combine(self.anchor, self.base, updates, self.trained)

    def mean_product(self, layer):
        """sum_k w_k s_k B_k A_k / sum_k w_k, client by client, from what each client has."""
        total = 0.0
        for start, delta, weight in zip(self.starts, self.deltas, self.weights, strict=True):
            a, b = (start[n].astype(np.float64) + delta.get(n, 0.0) for n in (layer.a, layer.b))
            total = total + weight * self.scaling(len(a)) * b @ a
        return total / sum(self.weights)

    def product_after(self, combined, layer):
        """What the new model adds to the frozen weight at a layer."""
        after = {n: self.base[n] + d for n, d in combined.mean_delta.items()}
        factors = (after.get(n, self.base[n]).astype(np.float64) for n in (layer.a, layer.b))
        a, b = factors
        return self.scaling(len(a)) * b @ a + after.get(layer.residual, 0.0)


def relative(value, expected):
    return np.linalg.norm(value - expected) / np.linalg.norm(expected)


@every_rule
@some
@given(case=CASES)
def test_the_error_told_is_that_of_the_new_model(name, case):
    round = Round(name, **case)
    combined = round.combined()
    off = whole = 0.0
    for layer in layers_of(round.anchor):
        expected, got = round.mean_product(layer), round.product_after(combined, layer)
        told = combined.layers[layer.name]["error"]
        assert told == pytest.approx(relative(got, expected), rel=1e-6, abs=1e-12)
        off, whole = off + np.square(got - expected).sum(), whole + np.square(expected).sum()
    assert combined.error == pytest.approx(np.sqrt(off / whole), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("name", EXACT)
@some
@given(case=CASES)
def test_exact_rules_give_the_mean_of_products(name, case):
    """Asked: 1e-6. Non-square layers, unequal ranks, both scalings."""
    round = Round(name, **case)
    combined = round.combined()
    # Frozen factors are rounded to float32 where a lower rank rescales B; nothing else is.
    limit = 1e-6 if name == "alternating" else 1e-12
    assert combined.error < limit
    for layer in layers_of(round.anchor):
        assert relative(round.product_after(combined, layer), round.mean_product(layer)) < limit


@pytest.mark.parametrize("rslora", [False, True], ids=["alpha / r", "rslora"])
@pytest.mark.parametrize("shapes", [[(9, 5)], [(5, 9)], [(9, 5), (5, 8)]], ids=str)
@pytest.mark.parametrize("name", RULES)
def test_on_layers_that_are_not_square_at_unequal_ranks_each_rule_is_as_exact_as_it_says(
    name, shapes, rslora
):
    """1e-6 for exact rules; FedIT is off; a projection by what its rank cannot hold (by SVD)."""
    for number in (1, 2):
        case = {"seed": number, "alpha": 3.0, "rslora": rslora, "round": number}
        round = Round(name, shapes=shapes, ranks=[1, 3, 4, 2], **case)
        combined = round.combined()
        off = whole = tail = 0.0
        for layer in layers_of(round.anchor):
            expected, got = round.mean_product(layer), round.product_after(combined, layer)
            singular = np.linalg.svd(expected, compute_uv=False)
            rank = combined.layers[layer.name]["rank"]
            off, whole = off + np.square(got - expected).sum(), whole + np.square(expected).sum()
            tail += np.square(singular[rank:]).sum()
        error = np.sqrt(off / whole)
        assert error == pytest.approx(combined.error, rel=1e-6, abs=1e-12)
        if name in EXACT:
            assert error < 1e-6
        elif name == "mean":
            assert error > 0.1
        else:
            assert error == pytest.approx(np.sqrt(tail / whole), rel=1e-6) and error > 1e-3


@every_rule
@some
@given(case=CASES, factor=st.sampled_from([0.5, 4.0]))
def test_order_and_unit_of_the_weights_do_not_matter(name, case, factor):
    round = Round(name, **case)
    straight, backwards = round.combined(), round.combined(range(len(case["ranks"]))[::-1])
    assert straight.error == pytest.approx(backwards.error, rel=1e-6, abs=1e-12)
    for layer in layers_of(round.anchor):
        one, other = (round.product_after(each, layer) for each in (straight, backwards))
        assert np.allclose(one, other, rtol=1e-9, atol=1e-9)
    scaled = round.combined(factor=factor)  # powers of two: the same bits
    assert all((scaled.mean_delta[n] == d).all() for n, d in straight.mean_delta.items())


@every_rule
@some
@given(case=CASES)
def test_what_is_no_adapter_moves_by_its_weighted_mean(name, case):
    round = Round(name, **case)
    pairs = zip(round.deltas, round.weights, strict=True)
    heads = [({"head.bias": delta["head.bias"]}, weight) for delta, weight in pairs]
    plain = canonical_mean(heads)["head.bias"]
    assert (round.combined().mean_delta["head.bias"] == plain).all()


@pytest.mark.parametrize("name", [name for name in RULES if name != "svd-budget"])
@some
@given(case=CASES)
def test_one_client_is_itself(name, case):
    round = Round(name, **{**case, "ranks": case["ranks"][:1]})
    combined = round.combined()
    assert combined.error < (1e-6 if name == "alternating" else 1e-12)


@every_rule
@some
@given(case=CASES)
def test_double_alpha_is_double_the_product(name, case):
    once = Round(name, **case)
    twice = Round(name, **{**case, "alpha": 2 * case["alpha"]})
    one, two = once.combined(), twice.combined()
    for layer in layers_of(once.anchor):
        single, double = once.product_after(one, layer), twice.product_after(two, layer)
        assert np.allclose(2 * single, double, rtol=1e-9, atol=1e-9)
    assert one.error == pytest.approx(two.error, rel=1e-6, abs=1e-12)


@every_rule
def test_a_round_of_the_head_leaves_adapters_alone(name):
    round = Round(name, seed=1, shapes=[(5, 7)], ranks=[4, 4])
    combined = combine(
        round.rule,
        round.anchor,
        round.how.base(round.anchor),
        [({"head.bias": d["head.bias"]}, 1.0) for d in round.deltas],
        trained={"head.bias"},
        scaling=round.scaling,
        draw=lambda layer: fresh((RANK, 7), 0, 1, layer),
    )
    assert set(combined.mean_delta) == {"head.bias"} and combined.to_json() == {}


@every_rule
def test_nobody_is_refused(name):
    round = Round(name, seed=1, shapes=[(5, 7)], ranks=[4])
    with pytest.raises(ValueError, match="nothing to average"):
        round.combined(order=[])


def test_the_mean_of_factors_is_off_and_at_equal_ranks_is_the_plain_mean():
    """FedIT's error above zero on generic factors; the same bits as a mean that knows no layers."""
    round = Round("mean", seed=5, shapes=[(9, 6), (5, 8)], ranks=[4, 4, 4])
    combined = round.combined()
    assert combined.error > 0.1
    plain = canonical_mean(list(zip(round.deltas, round.weights, strict=True)))
    assert combined.mean_delta.keys() == plain.keys()
    assert all((combined.mean_delta[n] == d).all() for n, d in plain.items())


def test_the_mean_of_factors_is_exact_where_everybody_has_the_same_a():
    round = Round("mean", seed=5, shapes=[(9, 6)], ranks=[4, 4, 4])
    for delta in round.deltas:
        delta["block.0.query.lora_A.default.weight"][:] = 0.25
    assert round.combined().error < 1e-12
    round.deltas[0]["block.0.query.lora_A.default.weight"][0, 0] += 1.0
    assert round.combined().error > 1e-3
