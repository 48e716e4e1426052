"""A is drawn once and stays; clients train B: the mean of B is then the mean of the products.

Sun, Li, Li and Ding, Improving LoRA in Privacy-preserving Federated Learning (FFA-LoRA),
ICLR 2024. https://arxiv.org/abs/2403.12313
"""

from __future__ import annotations

from fedcore.adapters.rule import AdapterRule, Part, mean_of_factors


def frozen_a() -> AdapterRule:
    """B <- sum_k w_k B_k; ``sum w (B A) = (sum w B) A``.

    Under differential privacy the noise of B enters the product once. With both factors trained it
    is ``(B + N_B)(A + N_A)``, whose term ``N_B N_A`` grows with the square of the noise.
    """
    return AdapterRule(mean_of_factors, lambda round: frozenset({Part.B}), averages=True)
