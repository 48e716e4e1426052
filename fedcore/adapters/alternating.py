"""B in one round, A in the next: each mean is exact because the other factor is everybody's.

Chen, Guo, Ju, Dalal, Zhu and Khisti, Robust Federated Finetuning of Foundation Models via
Alternating Minimization of LoRA (RoLoRA), 2024. https://arxiv.org/abs/2409.02346
"""

from __future__ import annotations

from fedcore.adapters.rule import AdapterRule, Part, mean_of_factors


def alternating() -> AdapterRule:
    """B in odd rounds and A in even ones: B starts at zero, where A has no gradient."""
    return AdapterRule(
        mean_of_factors, lambda round: frozenset({Part.B if round % 2 else Part.A}), averages=True
    )
