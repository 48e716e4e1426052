"""What a rule for adapters cannot work with, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcore.adapters.choice import AdapterShape, adapter_of, resolved
from fedcore.adapters.rule import AdapterRule
from fedcore.adapters.settings import Automatic, GivenRanks, SameRank
from fedcore.models.weights import is_quantised

if TYPE_CHECKING:
    from fedcore.config import RunConfig

_HERE = "aggregation.adapters.kind"


def uncombinable(config: RunConfig) -> str | None:
    """Why these settings cannot combine adapters, with the way out; None when they can."""
    adapter, chosen = adapter_of(config.model), config.aggregation.adapters
    if adapter is None:
        return _without_adapters(config)
    rule = resolved(chosen, config.privacy.kind != "none")
    found = _ranks(config, adapter) or _product(config, adapter, rule.kind)
    if found is None and adapter.dora and not rule.build().averages:
        found = (
            f"{_HERE}={rule.kind} works on products, and model.adapter.dora=true scales each "
            "weight after the product was added; take mean, frozen_a or alternating, or dora=false."
        )
    if found is None and rule.build().carries_residual and is_quantised(config.model):
        found = (
            f"{_HERE}={rule.kind} corrects frozen weights, and those of model.base="
            f"{getattr(config.model, 'base', '')} take no correction; take mean, frozen_a, "
            "alternating or svd, or model.base: bfloat16."
        )
    return found or _server(config, rule.kind, rule.build())


def _without_adapters(config: RunConfig) -> str | None:
    chosen, ranks = config.aggregation.adapters, config.aggregation.client_ranks
    if not isinstance(chosen, Automatic):
        return (
            f"{_HERE}={chosen.kind} has nothing to combine: the model of kind={config.model.kind} "
            "has no adapters. Take a model with mode: adapters, or leave aggregation.adapters out."
        )
    if _hides_products(config):
        return (
            "privacy.norm_of=product is of adapters, and the model of kind="
            f"{config.model.kind} has none. Take a model with mode: adapters, or norm_of: update."
        )
    if not isinstance(ranks, SameRank):
        return (
            f"aggregation.client_ranks.kind={ranks.kind} is of adapters, and the model of kind="
            f"{config.model.kind} has none. Take a model with mode: adapters, or kind: same."
        )
    return None


def _ranks(config: RunConfig, adapter: AdapterShape) -> str | None:
    ranks = config.aggregation.client_ranks
    if isinstance(ranks, GivenRanks):
        above = {one: rank for one, rank in ranks.ranks.items() if rank > adapter.rank}
        if above:
            return (
                f"aggregation.client_ranks.ranks={above} is above model.adapter.rank="
                f"{adapter.rank}, from which clients take their first directions; raise that."
            )
    if config.privacy.kind == "client" and not isinstance(ranks, SameRank):
        return (
            f"aggregation.client_ranks.kind={ranks.kind} with privacy.kind=client: a client of a "
            "lower rank moves the sum by the directions that it leaves out too, more than "
            "clip_norm. Take kind: same."
        )
    return None


def _product(config: RunConfig, adapter: AdapterShape, kind: str) -> str | None:
    """Why the product of a client's adapters has no bound by the norm of what it moved."""
    if not _hides_products(config):
        return None
    if kind != "frozen_a":
        return (
            f"privacy.norm_of=product with {_HERE}={kind}: only while A is frozen is a client's "
            "product linear in what it moves. Take frozen_a (or automatic), or norm_of: update."
        )
    if adapter.dora:
        return (
            "privacy.norm_of=product with model.adapter.dora=true: each weight is scaled after the "
            "product was added, which is then not the change. Set dora: false, or norm_of: update."
        )
    return None


def _hides_products(config: RunConfig) -> bool:
    return getattr(config.privacy, "norm_of", "update") == "product"


def _server(config: RunConfig, kind: str, rule: AdapterRule) -> str | None:
    """What else at the server moves factors or counts on how they move."""
    strategy, is_exact = config.strategy, not rule.averages
    rate = getattr(strategy, "server_learning_rate", None)
    is_plain = strategy.kind in ("fedavg", "fedprox")
    if is_exact and (not is_plain or rate != 1.0):
        return (
            f"{_HERE}={kind} sets both factors and what is carried at once; a server step of "
            f"strategy.kind={strategy.kind}, server_learning_rate={rate} on each would not be a "
            "step of their product. Take fedavg or fedprox with server_learning_rate: 1, or mean."
        )
    if kind == "alternating" and not is_plain:
        return (
            f"{_HERE}=alternating keeps one factor fixed in each round, and the moments of "
            f"strategy.kind={strategy.kind} would move it on; take fedavg or fedprox."
        )
    if is_exact and config.privacy.kind == "client":
        return (
            f"{_HERE}={kind} with privacy.kind=client: clip_norm bounds a client's factors, not "
            "their product, so that the noise would not hide it. Take frozen_a (the default "
            "there), alternating or mean: their sum of factors has the sensitivity clip_norm."
        )
    if (is_exact or kind == "alternating") and getattr(config.engine, "late", None) == "stale":
        return (
            f"{_HERE}={kind} with engine.late=stale: the factors of a late update belong to those "
            "of its own round. Set engine.late: refuse, or take mean or frozen_a."
        )
    return None
