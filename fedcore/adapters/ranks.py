"""Adapters of other ranks: a client takes the first directions, and the server pads with zeros.

Cho et al., Heterogeneous LoRA for Federated Fine-tuning of On-Device Foundation Models, EMNLP 2024
(truncation and zero padding). https://arxiv.org/abs/2401.06432

The rank of a layer is the number of rows of its A. The scaling depends on it, so that B is
multiplied by the quotient of both scalings on the way and A is not: its rows are the same bits at
every rank.
"""

from __future__ import annotations

import numpy as np

from fedcore.adapters.layers import layers_of
from fedcore.adapters.scaling import Scaling
from fedcore.tensors import Arrays


def cut(arrays: Arrays, rank: int | None, scaling: Scaling) -> dict[str, np.ndarray]:
    """What a client of this rank starts from: the first ``rank`` directions of each layer, or as
    many as the layer has; everything else as it is.

    Args:
      arrays: of the global model.
      rank: None: the ranks of the global model.
      scaling: of the adapters.
    """
    found = dict(arrays)
    if rank is not None:
        for layer in layers_of(arrays):
            a, b = arrays[layer.a], arrays[layer.b]
            found[layer.a], found[layer.b] = cut_factors(a, b, min(rank, len(a)), scaling)
    return found


def cut_factors(
    a: np.ndarray, b: np.ndarray, rank: int, scaling: Scaling
) -> tuple[np.ndarray, np.ndarray]:
    """The first ``rank`` directions, so that the scaled product is that of these directions.

    Args:
      a: (r, inputs), r >= ``rank``.
      b: (outputs, r).

    Returns:
      (rank, inputs), (outputs, rank) of the same dtypes; as they are where the rank is the same.

    >>> a, b = cut_factors(np.eye(2), np.eye(2), 1, Scaling(2.0))
    >>> (2.0 * b @ a).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    if rank == len(a):
        return a, b
    quotient = scaling(len(a)) / scaling(rank)
    return a[:rank], (b[:, :rank] * quotient).astype(b.dtype)


def pad_factors(
    a: np.ndarray, b: np.ndarray, rank: int, scaling: Scaling
) -> tuple[np.ndarray, np.ndarray]:
    """The same scaled product at a higher rank, with zeros in the further directions.

    Args:
      a: (r, inputs), r <= ``rank``.
      b: (outputs, r).

    Returns:
      (rank, inputs), (outputs, rank) of the same dtypes; as they are where the rank is the same.
    """
    more = rank - len(a)
    if more == 0:
        return a, b
    quotient = scaling(len(a)) / scaling(rank)
    wider = np.pad(b * quotient, ((0, 0), (0, more))).astype(b.dtype)
    return np.pad(a, ((0, more), (0, 0))), wider


def pad(arrays: Arrays, rank: int, scaling: Scaling) -> dict[str, np.ndarray]:
    """Every layer at ``rank``, its product unchanged."""
    found = dict(arrays)
    for layer in layers_of(arrays):
        factors = pad_factors(arrays[layer.a], arrays[layer.b], rank, scaling)
        found[layer.a], found[layer.b] = factors
    return found


def trim(arrays: Arrays, scaling: Scaling) -> dict[str, np.ndarray]:
    """Every layer at its active rank, its product unchanged."""
    found = dict(arrays)
    for layer in layers_of(arrays):
        a, b = arrays[layer.a], arrays[layer.b]
        found[layer.a], found[layer.b] = cut_factors(a, b, active_rank(a, b), scaling)
    return found


def active_rank(a: np.ndarray, b: np.ndarray) -> int:
    """The rank without the last directions that are zero in both factors, at least 1.

    >>> active_rank(np.array([[1.0, 2.0], [0.0, 0.0]]), np.zeros((3, 2)))
    1
    """
    alive = np.flatnonzero((a != 0).any(axis=1) | (b != 0).any(axis=0))
    return int(alive[-1]) + 1 if alive.size else 1
