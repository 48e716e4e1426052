"""Rounds of gradient steps in numpy: every rule learns, and ranks follow where the change is."""

import numpy as np
import pytest

from fedcore.adapters.layers import Layer, layers_of
from fedcore.adapters.ranks import cut
from fedcore.adapters.scaling import Scaling
from fedcore.adapters.server import AdapterRound, fresh
from fedcore.adapters.settings import Alternating, FrozenA, Mean, Residual, Stacking, Svd
from fedcore.models.parts import part_of

OUT, IN, RANK, STEPS = 6, 10, 8, 10
RULES = [Mean(), FrozenA(), Alternating(), Stacking(), Residual(), Svd(), Svd(budget=0.75)]


def first(layers):
    model = {}
    for layer in layers:
        model[layer.a] = fresh((RANK, IN), 0, 0, layer.name).astype(np.float32)
        model[layer.b] = np.zeros((OUT, RANK), np.float32)
    return model


def weight(model, layer, scaling):
    """(outputs, inputs): what the model adds to the frozen weight."""
    product = scaling(len(model[layer.a])) * model[layer.b] @ model[layer.a]
    return product + model.get(layer.residual, 0.0)


def trained(start, names, wanted, scaling):
    """The delta of a client whose loss is ``|weight - wanted|^2 / 2`` at each layer."""
    here = dict(start)
    for _ in range(STEPS):
        for layer, target in wanted.items():
            a, b, scale = here[layer.a], here[layer.b], scaling(len(here[layer.a]))
            slope = scale * (weight(here, layer, scaling) - target)
            moved = {layer.a: a - 0.02 * b.T @ slope, layer.b: b - 0.02 * slope @ a.T}
            here |= {n: v.astype(np.float32) for n, v in moved.items() if n in names}
    return {name: here[name] - start[name] for name in sorted(names)}


def a_round(how, model, wanted_by_client, ranks):
    """One round of FedAvg over clients; the next model and what was told."""
    names, updates = {n for n in model if part_of(n) in how.rule.trains(how.round)}, []
    for client, wanted in wanted_by_client.items():
        start = cut(model, ranks.get(client), how.scaling)
        updates.append((trained(start, names, wanted, how.scaling), 1.0))
    base = how.base(model)
    combined = how.combine(model, base, updates, names)
    after = {n: v + combined.mean_delta.get(n, 0.0) for n, v in base.items()}
    return how.left({n: v.astype(np.float32) for n, v in after.items()}), combined


@pytest.mark.parametrize("chosen", RULES, ids=lambda one: str(one.model_dump()))
@pytest.mark.parametrize("rslora", [False, True])
def test_clients_of_ranks_2_4_and_8_learn_what_they_have_in_common(chosen, rslora):
    rng = np.random.default_rng(0)
    layer, scaling = Layer("q"), Scaling(8.0, rslora)
    common = rng.normal(size=(OUT, 2)) @ rng.normal(size=(2, IN)) / 4
    noise = rng.normal(size=(3, OUT, IN)) / 20
    wanted = {f"c{k}": {layer: common + noise[k]} for k in range(3)}
    ranks, rule = {"c0": 2, "c1": 4, "c2": 8}, chosen.build()
    model = first([layer])
    for number in range(1, 13):
        how = AdapterRound(rule, scaling, RANK, number, 0)
        model, combined = a_round(how, model, wanted, ranks)
        assert np.isfinite(combined.error)
    off = np.linalg.norm(weight(model, layer, scaling) - common) / np.linalg.norm(common)
    # Before the first round it is 1. Random A that stay cannot hold the whole change.
    assert off < (0.85 if chosen.kind == "frozen_a" else 0.45)


def test_the_budget_follows_the_change_from_one_layer_to_the_other_and_back():
    rng = np.random.default_rng(1)
    layers = Layer("k"), Layer("q")
    scaling, rule = Scaling(8.0), Svd(budget=0.5).build()
    model, seen = first(layers), []
    for number, large in enumerate((0, 0, 0, 1, 1, 1, 0, 0, 0), 1):
        size = {layers[large]: 1.0, layers[1 - large]: 0.02}
        wanted = {c: {x: f * rng.normal(size=(OUT, IN)) for x, f in size.items()} for c in "ab"}
        how = AdapterRound(rule, scaling, RANK, number, 0)
        model, combined = a_round(how, model, wanted, {})
        seen.append([combined.layers[layer.name]["rank"] for layer in layers])
        assert [len(model[layer.a]) for layer in layers_of(model)] == seen[-1]
        assert sum(seen[-1]) * (OUT + IN) <= 0.5 * 2 * RANK * (OUT + IN)
    (k1, q1), (k2, q2), (k3, q3) = seen[2], seen[5], seen[8]
    assert k1 > q1 and q2 > k2 and k3 > q3
