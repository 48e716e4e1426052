"""Whether a model that was built can be what its rule for adapters makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fedcore.adapters.choice import adapter_of, rule_of
from fedcore.adapters.layers import FACTOR_A, FACTOR_B, layers_of
from fedcore.adapters.server import adapter_round
from fedcore.adapters.settings import SameRank
from fedcore.models.state import Fitted
from fedcore.tensors import Arrays

if TYPE_CHECKING:
    from torch import nn

    from fedcore.config import RunConfig


def require_fitted(config: RunConfig, model: nn.Module, params: Arrays) -> None:
    """Refuse a model, in practice a plug-in, that a round would find unable to take its parameters.

    Args:
      params: of the model, by name.

    Raises:
      ValueError: no tensors of adapters, of another rank than was said, or tensors that cannot
        change their shapes where the rule or the clients' ranks change them; or see
        :func:`fedcore.adapters.coordinates.product_coordinates`.
    """
    adapter = adapter_of(config.model)
    if adapter is None:
        return
    who, layers = f"the model of kind={config.model.kind}", layers_of(params)
    if not layers:
        raise ValueError(
            f"{who} says that it has adapters, and trains no tensors X{FACTOR_A} and X{FACTOR_B}; "
            "name its factors so, or leave its adapter out."
        )
    others = sorted({len(params[layer.a]) for layer in layers} - {adapter.rank})
    if others:
        raise ValueError(
            f"{who} says adapter.rank={adapter.rank}, and has adapters of rank {others}; the "
            "scaling of a product follows from its rank. Say that rank, one for all layers."
        )
    if (how := adapter_round(config, 1)) is not None:
        how.coordinates(params, params.keys())  # raises where there are none
    why = ", ".join(_changes(config))
    if why and not isinstance(model, Fitted):
        raise ValueError(
            f"{why}, which {who} cannot take: it has no methods fit and carried "
            "(fedcore.models.state.Fitted). Give it both, or take mean, frozen_a, alternating or "
            "svd without a budget, with client_ranks.kind: same."
        )
    rule, has = rule_of(config), model.carried() if isinstance(model, Fitted) else {}
    missing = sorted({layer.residual for layer in layers} - has.keys())
    if missing and rule is not None and rule.carries_residual:
        raise ValueError(
            f"{why}, and {who} carries no {missing[0]!r} ({len(missing)} missing). Name "
            "them all in carried(), or take mean, frozen_a, alternating or svd."
        )


def _changes(config: RunConfig) -> Iterator[str]:
    """What changes shapes or names of a model's tensors in the course of a run."""
    chosen, rule = config.aggregation, rule_of(config)
    if rule is not None and rule.carries_residual:
        yield f"aggregation.adapters.kind={chosen.adapters.kind} corrects frozen weights"
    if rule is not None and rule.adapts:
        yield f"aggregation.adapters.kind={chosen.adapters.kind} with a budget chooses ranks"
    if not isinstance(chosen.client_ranks, SameRank):
        yield f"aggregation.client_ranks.kind={chosen.client_ranks.kind} cuts adapters"
