"""The mean product, cut back to the rank of the adapter by its singular values.

Bai, Chen, Qian, Yao and Li, Federated Fine-tuning of Large Language Models under Heterogeneous
Tasks and Client Resources (FlexLoRA), NeurIPS 2024. https://arxiv.org/abs/2402.11505; Liu, Zhang,
Yao and Liu, HLoRA: Efficient Federated Learning System for LLM Heterogeneous Fine-Tuning, 2025.
https://arxiv.org/abs/2503.00813. Both form ``W' = sum_k (n_k / n) B_k A_k = U S V^T`` and send to a
client of rank r_k what its first r_k directions hold, ``U[:, :r_k] S[:r_k] V[:, :r_k]^T``. Which
factor gets S, and how ranks are found, does not change the product that a client starts from. Here
both factors get the root of S, so that neither has the larger gradient, and ranks are from
``aggregation.client_ranks``.

No factors of that rank are closer to the mean product (Eckart and Young 1936). Directions come in
the order of their singular values, so that a client of a lower rank takes the best ones it can
hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from fedcore.adapters.adaptive import choose_ranks
from fedcore.adapters.rule import AdapterRule, Change, Draw, LayerMeans


def svd(*, budget: float | None = None) -> AdapterRule:
    """s B A <- the best approximation of sum_k w_k s_k B_k A_k; B = U sqrt(S), A = sqrt(S) V^T.

    Args:
      budget: part of the parameters of all adapters that may be used, in (0, 1]; ranks are then
        chosen by :func:`fedcore.adapters.adaptive.choose_ranks`. None: the adapter's rank in every
        layer.
    """
    return AdapterRule(partial(_projected, budget=budget), adapts=budget is not None)


def _projected(
    means: Mapping[str, LayerMeans], draw: Draw, budget: float | None
) -> dict[str, Change]:
    found = {
        name: np.linalg.svd(layer.product, full_matrices=False) for name, layer in means.items()
    }
    full = {name: len(layer.a) for name, layer in means.items()}
    ranks: Mapping[str, int] = full
    if budget is not None:
        costs = {name: layer.a.shape[1] + len(layer.b) for name, layer in means.items()}
        most = int(budget * sum(costs[name] * full[name] for name in means))
        spectra = {name: padded(singular, full[name]) for name, (_, singular, _) in found.items()}
        ranks = choose_ranks(spectra, costs, most)
    changes = {}
    for name, layer in means.items():
        a, b = factors(*found[name], layer.scale, draw(name), ranks[name])
        changes[name] = Change(a - layer.a, b - layer.b)
    return changes


def factors(
    left: np.ndarray,
    singular: np.ndarray,
    right: np.ndarray,
    scale: float,
    fresh: np.ndarray,
    rank: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Factors of the first ``rank`` directions, split evenly; other directions are zero.

    A direction that the product does not have begins like a new adapter: zero in B and drawn in A.
    Zero in both it could never be trained.

    Args:
      left, singular, right: (outputs, k), (k,), (k, inputs) of the product.
      scale: what the product of the factors is multiplied by.
      fresh: (r, inputs) a new A.
      rank: at most r.

    Returns:
      A (r, inputs), B (outputs, r).
    """
    a, b = np.zeros_like(fresh), np.zeros((len(left), len(fresh)))
    smallest = singular[0] * np.finfo(np.float64).eps * max(left.shape[0], right.shape[1])
    held = min(rank, int(np.count_nonzero(singular > smallest)))
    # Either sign of a direction is right: the one with the largest number of U positive is taken.
    largest = np.abs(left[:, :held]).argmax(axis=0)
    sign = np.sign(left[largest, np.arange(held)])
    root = np.sqrt(singular[:held] / scale)
    b[:, :held] = left[:, :held] * (sign * root)
    a[:held] = right[:held] * (sign * root)[:, None]
    a[held:rank] = fresh[held:rank]
    return a, b


def padded(singular: np.ndarray, rank: int) -> np.ndarray:
    """Exactly ``rank`` singular values, zeros at the end where there are fewer."""
    return np.pad(singular, (0, max(0, rank - len(singular))))[:rank]
