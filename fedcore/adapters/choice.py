"""What a configuration says of adapters: their shape, the rule, each client's rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from fedcore.adapters.rule import AdapterRule
from fedcore.adapters.scaling import Scaling
from fedcore.adapters.settings import AdapterAggregation, Automatic, FrozenA, Mean, Rule
from fedcore.settings import Settings

if TYPE_CHECKING:
    from fedcore.config import RunConfig


class AdapterShape(Settings):
    """What aggregation needs to know of ``model.adapter``."""

    model_config = ConfigDict(extra="ignore")

    rank: int = Field(ge=1)
    alpha: float = Field(gt=0)
    rslora: bool = False
    dora: bool = False

    @property
    def scaling(self) -> Scaling:
        """By rank."""
        return Scaling(self.alpha, self.rslora)


def adapter_of(model: Any) -> AdapterShape | None:
    """Of the settings of a model (a plug-in says it in ``options.adapter``); None: it has none."""
    said = getattr(model, "adapter", None) or getattr(model, "options", {}).get("adapter")
    if said is None or getattr(model, "mode", "adapters") != "adapters":
        return None
    values = said.model_dump() if isinstance(said, Settings) else said
    return AdapterShape.model_validate(values)


def rule_of(config: RunConfig) -> AdapterRule | None:
    """The rule of a run; None where its model has no adapters."""
    if adapter_of(config.model) is None:
        return None
    return resolved(config.aggregation.adapters, config.privacy.kind != "none").build()


def resolved(chosen: AdapterAggregation, is_private: bool) -> Rule:
    """The rule that is taken: noise on both factors is multiplied in their product (Sun et al.
    2024), with A frozen it enters once."""
    if not isinstance(chosen, Automatic):
        return chosen
    return FrozenA() if is_private else Mean()


def rank_of(config: RunConfig, client: str, sizes: Mapping[str, int]) -> int | None:
    """A client's rank; None: the ranks of the global model.

    Args:
      sizes: client id -> training examples.
    """
    return config.aggregation.client_ranks.rank_of(client, sizes[client])
