"""The stacked factors' product goes into the carried weight, and adapters begin anew: exact.

Wang, Shen, He, Sun, Wang, Lyu and Li, FLoRA: Federated Fine-Tuning Large Language Models with
Heterogeneous Low-Rank Adaptations, NeurIPS 2024 (stacking-based aggregation).
https://arxiv.org/abs/2409.05976
"""

from __future__ import annotations

from collections.abc import Mapping

from fedcore.adapters.rule import AdapterRule, Change, Draw, LayerMeans


def stacking() -> AdapterRule:
    """W <- W + sum_k w_k s_k B_k A_k, B <- 0, A drawn anew.

    ``[w_1 s_1 B_1 ... w_K s_K B_K] [A_1; ...; A_K]`` is that sum; it is added up instead of
    stacked, so that memory does not grow with the cohort.
    """
    return AdapterRule(_merged, carries_residual=True)


def _merged(means: Mapping[str, LayerMeans], draw: Draw) -> dict[str, Change]:
    return {
        name: Change(draw(name) - layer.a, -layer.b, layer.product) for name, layer in means.items()
    }
