"""The mean of A and the mean of B: cheap, and not the mean of the products.

Zhang et al., Towards Building the Federated GPT: Federated Instruction Tuning (FedIT), ICASSP 2024.
https://arxiv.org/abs/2305.05644. With unequal ranks the factors are padded with zeros
(Cho et al. 2024).
"""

from __future__ import annotations

from fedcore.adapters.rule import AdapterRule, mean_of_factors


def mean() -> AdapterRule:
    """B <- sum_k w_k B_k, A <- sum_k w_k A_k.

    ``(sum w B)(sum w A)`` is ``sum w B A`` only where all A or all B are equal.
    """
    return AdapterRule(mean_of_factors, averages=True)
