"""A round's aggregation as a Prefect task: refs in, refs out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from fedcore.aggregate import Aggregate, aggregate
from fedcore.global_model import GlobalModel
from fedcore.outcomes import ClientUpdate
from fedcore.plan import RunPlan
from tasks import home


@task(name="aggregate", task_run_name="{label}", cache_policy=NO_CACHE, result_serializer="json")
def _aggregate(
    label: str,
    strategy: Any,
    weighting: str,
    parent: GlobalModel,
    updates: list[tuple[str, ClientUpdate]],
) -> Aggregate:
    """The server's part of one round."""
    return aggregate(home.store(), strategy.build(), parent, updates, weighting=weighting)


def aggregate_as_task(
    plan: RunPlan, parent: GlobalModel, updates: Sequence[tuple[str, ClientUpdate]]
) -> Aggregate:
    """A :data:`fedcore.rounds.Aggregation` that the operator sees in the graph."""
    config = plan.config
    label = f"round-{parent.round + 1}/aggregate"
    return _aggregate(label, config.strategy, config.aggregation.weighting, parent, list(updates))
