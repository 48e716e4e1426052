"""The mean of the factors, and what it misses goes into the carried weight: exact.

Singhal, Ponkshe and Vepakomma, FedEx-LoRA: Exact Aggregation for Federated and Efficient
Fine-Tuning of Large Language Models, ACL 2025 (the residual error term).
https://arxiv.org/abs/2410.09432
"""

from __future__ import annotations

from collections.abc import Mapping

from fedcore.adapters.rule import AdapterRule, Change, Draw, LayerMeans


def residual() -> AdapterRule:
    """B, A <- their means, W <- W + sum_k w_k s_k B_k A_k - s (sum_k w_k B_k)(sum_k w_k A_k)."""
    return AdapterRule(_corrected, carries_residual=True)


def _corrected(means: Mapping[str, LayerMeans], draw: Draw) -> dict[str, Change]:
    return {
        name: Change(layer.delta_a, layer.delta_b, layer.product - layer.product_of_means)
        for name, layer in means.items()
    }
