"""Whether the run fits this machine, looked at before its first round."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from fedcore.chain import Chain
from fedcore.engines.settings import Sites
from fedcore.plan import RunPlan
from fedcore.preflight import NOTE, Preflight, check, look_around, require_room
from fedcore.timing import NOTHING, time_batch
from tasks import home


@task(task_run_name="preflight", cache_policy=NO_CACHE, result_serializer="json")
def preflight(run_id: str, workers: int) -> dict[str, Any]:
    """Disk, memory and time of the rounds that are left, kept beside the chain for the plan."""
    chain = Chain(home.store(), run_id)
    plan = RunPlan.from_header(chain.header())
    done = sum(1 for _ in chain.records())
    is_over = done >= plan.config.rounds.count
    is_here = not isinstance(plan.config.engine, Sites)
    timing = NOTHING if is_over or not is_here else time_batch(plan, chain.store)
    found = check(plan, look_around(home.home()), timing, done=done, workers=workers)
    chain.annotate(NOTE, {**found.to_json(), "timing": timing.to_json()})
    for warning in found.warnings:
        get_run_logger().warning(warning)
    return found.to_json()


def require_fit(found: dict[str, Any]) -> None:
    """Raises PreflightFailed when the run does not fit this machine."""
    require_room(Preflight.from_json(found))
