"""A round's aggregation as a Prefect task: refs in, refs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from fedcore.aggregate import Aggregate, aggregate_round
from fedcore.global_model import GlobalModel
from fedcore.outcomes import ClientUpdate
from fedcore.plan import RunPlan
from fedcore.privacy.owner import Owner
from tasks import home


@task(name="aggregate", task_run_name="{label}", cache_policy=NO_CACHE, result_serializer="json")
def _aggregate(label: str, work: Callable[[], Aggregate]) -> Aggregate:
    """The server's part of one round."""
    return work()


def aggregate_as_task(
    plan: RunPlan, parent: GlobalModel, updates: Sequence[tuple[str, ClientUpdate]]
) -> Aggregate:
    """A :data:`fedcore.rounds.Aggregation` that the operator sees in the graph."""
    owner = Owner(home.privacy())
    return _aggregate(
        f"round-{parent.round + 1}/aggregate",
        lambda: aggregate_round(home.store(), plan, parent, updates, owner),
    )
