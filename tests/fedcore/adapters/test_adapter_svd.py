"""Projection by singular values against dense linear algebra, and what has no direction."""

import numpy as np
import pytest

from fedcore.adapters.ranks import cut_factors
from fedcore.adapters.rule import LayerMeans
from fedcore.adapters.scaling import Scaling
from fedcore.adapters.stacking import stacking
from fedcore.adapters.svd import svd

OUT, IN, RANK, SCALE = 6, 9, 3, 2.0


def means(product, scale=SCALE):
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(RANK, IN)), rng.normal(size=(OUT, RANK))
    return {"q": LayerMeans(a, b, 0 * a, 0 * b, product, scale)}


def draw(layer):
    return np.full((RANK, IN), 0.125)


def after(rule, given):
    change = rule.combine(given, draw)["q"]
    return given["q"].a + change.delta_a, given["q"].b + change.delta_b


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_nothing_of_that_rank_is_closer_and_directions_come_in_order(scale):
    """Eckart and Young: the error is the norm of the singular values left out."""
    product = np.random.default_rng(0).normal(size=(OUT, IN))
    a, b = after(svd(), means(product, scale))
    singular = np.linalg.svd(product, compute_uv=False)
    off = np.linalg.norm(scale * b @ a - product)
    assert off == pytest.approx(np.linalg.norm(singular[RANK:]), rel=1e-12)
    for r in range(1, RANK + 1):  # so that a client of rank r takes the best r
        cut = np.linalg.norm(scale * b[:, :r] @ a[:r] - product)
        assert cut == pytest.approx(np.linalg.norm(singular[r:]), rel=1e-12)
    # An even split: both factors have the roots of the singular values.
    assert np.allclose((b**2).sum(axis=0), singular[:RANK] / scale)
    assert np.allclose((a**2).sum(axis=1), singular[:RANK] / scale)
    assert (b[np.abs(b).argmax(axis=0), range(RANK)] > 0).all()


@pytest.mark.parametrize("rslora", [False, True])
def test_each_client_starts_from_what_flexlora_and_hlora_send_it(rslora):
    """W' of stacked factors by QR and a small SVD, S in one factor, cut at the client's rank."""
    rng, scaling, ranks = np.random.default_rng(5), Scaling(8.0, rslora), (1, 2, 3, 4)
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    clients = [(rng.normal(size=(r, IN)), rng.normal(size=(OUT, r))) for r in ranks]
    wide = np.hstack([w * scaling(len(a)) * b for w, (a, b) in zip(weights, clients, strict=True)])
    (q_left, r_left), (q_right, r_right) = (
        np.linalg.qr(wide),
        np.linalg.qr(np.vstack([a for a, _ in clients]).T),
    )
    left, singular, right = np.linalg.svd(r_left @ r_right.T)
    u, v = q_left @ left[:, : len(singular)], right[: len(singular)] @ q_right.T
    a, b = after(svd(), means(wide @ np.vstack([a for a, _ in clients]), scaling(RANK)))
    for rank in range(1, RANK + 1):
        mine_a, mine_b = cut_factors(a, b, rank, scaling)
        got = scaling(rank) * mine_b @ mine_a
        sent = u[:, :rank] @ (singular[:rank, None] * v[:rank])
        assert np.allclose(got, sent, rtol=1e-9, atol=1e-12)


def test_a_direction_that_the_product_lacks_begins_anew():
    one = np.outer(np.arange(1.0, OUT + 1), np.arange(1.0, IN + 1))
    a, b = after(svd(), means(one))
    assert np.allclose(SCALE * b @ a, one)
    assert np.allclose(a[1:], 0.125) and (b[:, 1:] == 0).all()
    a, b = after(svd(), means(np.zeros((OUT, IN))))
    assert np.allclose(a, 0.125) and (b == 0).all()


def test_a_budget_leaves_zeros_behind_the_chosen_rank():
    product = np.random.default_rng(0).normal(size=(OUT, IN))
    a, b = after(svd(budget=2 / 3), means(product))
    assert (a[2:] == 0).all() and (b[:, 2:] == 0).all() and (a[:2] != 0).any(axis=1).all()


def test_stacking_merged_into_the_weight_is_the_dense_mean():
    """W + sum w s B A, computed by stacking the factors as the paper does."""
    rng = np.random.default_rng(4)
    weights, ranks = np.array([0.5, 0.2, 0.3]), (2, 4, 8)
    clients = [(rng.normal(size=(r, IN)), rng.normal(size=(OUT, r)), 16.0 / r) for r in ranks]
    tall = np.vstack([a for a, _, _ in clients])
    wide = np.hstack([w * s * b for (_, b, s), w in zip(clients, weights, strict=True)])
    dense = sum(w * s * b @ a for (a, b, s), w in zip(clients, weights, strict=True))
    given = means(dense)
    change = stacking().combine(given, draw)["q"]
    assert np.allclose(change.residual, wide @ tall, rtol=1e-12)
    assert (given["q"].b + change.delta_b == 0).all()
    assert np.allclose(given["q"].a + change.delta_a, draw("q"))
