"""What the API's answers become on their way to a site: what it may see, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Cut = Callable[[Any], Any]


def only(*names: str) -> Cut:
    """An object's fields of these names."""

    def cut(value: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError("the API answered with something that is no object")
        return {name: value[name] for name in names if name in value}

    return cut


_TIMES = ("created", "updated")
_RUN = (
    *("id", "name", "run_count", "state_id", "state_type", "state_name"),
    *("expected_start_time", "next_scheduled_start_time", "start_time", "end_time"),
    *("total_run_time", "estimated_run_time", "estimated_start_time_delta", "empirical_policy"),
    *_TIMES,
)
_details = only(
    *("scheduled_time", "pause_timeout", "pause_reschedule", "pause_key", "untrackable_result"),
    *("retriable", "transition_id", "flow_run_id", "task_run_id"),
)
_state = only("id", "type", "name", "timestamp", "message", "state_details")
_flow_run = only(
    *_RUN,
    *("flow_id", "deployment_id", "flow_version", "parameters", "auto_scheduled"),
    *("work_queue_id", "work_queue_name", "work_pool_id", "work_pool_name"),
)
_task_run = only(*_RUN, "flow_run_id", "task_key", "dynamic_key", "flow_run_run_count")
_verdict = only("type", "reason", "delay_seconds", "transition_id")

pool = only("id", "name", "type", "is_paused", "status", "default_queue_id", *_TIMES)
queue = only(
    *("id", "name", "is_paused", "priority", "status", "work_pool_id", "work_pool_name"),
    *("last_polled", *_TIMES),
)
flow = only("id", "name", *_TIMES)
deployment = only(
    *("id", "name", "flow_id", "paused", "status", "work_pool_name", "work_queue_name"),
    *("work_queue_id", *_TIMES),
)


def state(value: Any) -> Any:
    """A state without its result."""
    if value is None:
        return None
    return {**_state(value), "state_details": _details(value.get("state_details") or {})}


def flow_run(value: Any) -> Any:
    """A flow run without job variables, labels, and who made it."""
    return {**_flow_run(value), "state": state(value.get("state"))}


def task_run(value: Any) -> Any:
    """A task run without inputs, labels and cache key."""
    return {**_task_run(value), "state": state(value.get("state"))}


def orchestrated(value: Any) -> Any:
    """What became of a state that was asked for."""
    cut = only("status")(value)
    return {
        **cut,
        "state": state(value.get("state")),
        "details": _verdict(value.get("details") or {}),
    }
