"""Hiding clients by the norm of their products, against dense linear algebra."""

import math

import numpy as np
import pytest

from fedcore.adapters.coordinates import product_coordinates
from fedcore.adapters.layers import Layer
from fedcore.adapters.scaling import Scaling
from fedcore.config import ConfigError, make_config
from fedcore.privacy.client_level import ClientMechanism, private_mean

Q, V, HEAD = Layer("q"), Layer("v"), "head.bias"
RANK, ALPHA, CLIP, DENOMINATOR = 3, 12.0, 0.7, 4.0


def frozen(outputs=5, seed=0):
    """The global model: each A far from orthonormal, B not zero."""
    rng = np.random.default_rng(seed)
    model = {HEAD: np.zeros(4, np.float32)}
    for layer, inputs in ((Q, 7), (V, 6)):
        stretched = np.diag([4.0, 1.0, 0.1]) @ rng.normal(size=(RANK, inputs))
        model[layer.a] = stretched.astype(np.float32)
        model[layer.b] = rng.normal(size=(outputs, RANK)).astype(np.float32)
    return model


def moved(model, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    names = (HEAD, Q.b, V.b)
    return {n: (scale * rng.normal(size=model[n].shape)).astype(np.float32) for n in names}


def product_norm(model, arrays, rslora):
    """Of the change of all weights, layer by layer and dense, with the head's."""
    scale = ALPHA / math.sqrt(RANK) if rslora else ALPHA / RANK
    dense = [scale * arrays[x.b].astype(float) @ model[x.a].astype(float) for x in (Q, V)]
    parts = [*dense, arrays[HEAD].astype(float)]
    return np.linalg.norm(np.concatenate([part.ravel() for part in parts]))


def hidden(model, updates, mechanism, rslora=False):
    """The noisy mean as a round makes it."""
    trained = {name: model[name] for name in (HEAD, Q.b, V.b)}
    how = product_coordinates(model, Scaling(ALPHA, rslora), trained)
    given = [(how.there(one), 1) for one in updates]
    return how.back(private_mean(given, trained, mechanism, b"k" * 32)[0])


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_one_client_moves_the_weights_by_no_more_than_the_clip_norm(scale, rslora):
    model, mechanism = frozen(), ClientMechanism(CLIP, 1.0, DENOMINATOR)
    others = [moved(model, seed) for seed in range(4)]
    mine = moved(model, 99, scale)
    near = hidden(model, [*others, mine], mechanism, rslora)
    far = hidden(model, others, mechanism, rslora)
    difference = {name: DENOMINATOR * (near[name] - far[name]) for name in near}
    length = product_norm(model, difference, rslora)
    if scale > 1:  # the bound is met, and the direction kept
        assert length == pytest.approx(CLIP, rel=1e-9)
        shrunk = CLIP / product_norm(model, mine, rslora)
        for name, value in difference.items():
            np.testing.assert_allclose(value, shrunk * mine[name], rtol=1e-6, atol=1e-9)
    else:
        assert length == pytest.approx(product_norm(model, mine, rslora), rel=1e-6)
        assert length < CLIP


def test_noise_is_even_in_all_directions_that_a_has_and_nowhere_else():
    """Covariance of a row of the product: sigma^2 times the projector on A's rows, from an SVD."""
    model, stddev = frozen(outputs=20_000), 2.0
    mechanism = ClientMechanism(CLIP, stddev / CLIP, 1.0)
    mean = hidden(model, [], mechanism)
    assert mean[HEAD].std() < 3 * stddev
    for layer in (Q, V):
        a = model[layer.a].astype(float)
        _, _, basis = np.linalg.svd(a, full_matrices=False)
        rows = ALPHA / RANK * mean[layer.b] @ a
        found, expected = rows.T @ rows / len(rows), stddev**2 * basis.T @ basis
        bound = 5 * math.sqrt(2 / len(rows)) * stddev**2
        assert abs(found - expected).max() < bound
        uneven = stddev**2 * (ALPHA / RANK) ** 2 * a.T @ a  # noise of one size on the factor
        assert abs(uneven - expected).max() > 10 * bound


def test_there_and_back_is_where_one_was():
    model = frozen()
    arrays = moved(model, 1)
    how = product_coordinates(model, Scaling(ALPHA), arrays)
    back = how.back(how.there(arrays))
    for name, value in arrays.items():
        np.testing.assert_allclose(back[name], value, rtol=1e-9, atol=1e-12)
    assert back[HEAD] is arrays[HEAD]
    assert product_coordinates(model, Scaling(ALPHA), {HEAD}).maps == {}


def test_rows_of_a_that_depend_on_one_another_are_refused():
    model = frozen()
    model[Q.a][2] = model[Q.a][0]
    with pytest.raises(ValueError, match=r"layer 'q': its A, 3 rows of 7 inputs, has rows that"):
        product_coordinates(model, Scaling(ALPHA), model)
    model[Q.a] = np.eye(3, 2, dtype=np.float32)
    with pytest.raises(ValueError, match="3 rows of 2 inputs"):
        product_coordinates(model, Scaling(ALPHA), model)


def config_of(kind="automatic", adapter=None, **privacy):
    options = {"adapter": adapter} if adapter else {}
    return make_config(
        {
            "model": {"kind": "plugin", "name": "any", "options": options},
            "aggregation": {"weighting": "uniform", "adapters": {"kind": kind}},
            "evaluation": {"clients": False},
            "privacy": {"kind": "client", "noise_multiplier": 1.0, **privacy},
        }
    )


def test_only_a_frozen_a_has_products_to_hide_and_a_run_that_does_not_ask_is_what_it_was():
    adapter, product = {"rank": 4, "alpha": 8.0}, {"norm_of": "product"}
    asked, plain = config_of(adapter=adapter, **product), config_of(adapter=adapter)
    assert asked.digest != plain.digest
    assert "norm_of" not in plain.model_dump(mode="json")["privacy"]
    assert make_config(asked.model_dump(mode="json")) == asked
    with pytest.raises(ConfigError, match=r"kind=mean: only while A is frozen.*norm_of: update"):
        config_of("mean", adapter, **product)
    with pytest.raises(ConfigError, match=r"dora=true: each weight is scaled after the product"):
        config_of(adapter={**adapter, "dora": True}, **product)
    with pytest.raises(ConfigError, match=r"norm_of=product is of adapters, and the model of"):
        config_of(**product)
