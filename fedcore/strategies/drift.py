"""Terms added to each local gradient, described in JSON so that a job key can hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedcore.training.contract import Drift

if TYPE_CHECKING:
    import torch

Tensors = Mapping[str, "torch.Tensor"]


def proximal(mu: float) -> Drift:
    """mu (w - anchor), the gradient of FedProx's proximal term.

    Li et al., Federated Optimization in Heterogeneous Networks, MLSys 2020, equation 2.
    https://arxiv.org/abs/1812.06127
    """

    def drift(params: Tensors, anchor: Tensors) -> Mapping[str, torch.Tensor]:
        return {name: mu * (value - anchor[name]) for name, value in params.items()}

    return drift


def build_drift(description: Mapping[str, Any]) -> Drift | None:
    """The function that ``description`` names; None for ``{"kind": "none"}``."""
    kind = description["kind"]
    if kind == "none":
        return None
    if kind == "proximal":
        return proximal(description["mu"])
    raise ValueError(f"drift kind={kind!r} is not known; known: none, proximal.")
