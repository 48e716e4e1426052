"""What a site's runs say of themselves: the only way by which task runs reach the API.

Prefect's server makes a task run of an event ``prefect.task-run.STATE`` and believes every field of
it, ids too (``prefect/server/services/task_run_recorder.py``, 3.8.8). So an event is read, its ids
are compared with what the site owns, and it is written anew: about its own run, related to its own
deployment, without results, tags, labels and inputs, and under an id that no other site can take.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID, uuid5

from pydantic import Field, ValidationError

from deployments.gateway.shapes import Count, Name, Policy, Said, Seconds, State
from deployments.gateway.upstream import Estate, Upstream

HEARTBEAT = "prefect.flow-run.heartbeat"
TASK_RUN = re.compile(r"prefect\.task-run\.[A-Za-z]{1,40}")
# Of the ids of events, so that two sites never have the same.
_EVENTS = UUID("5d3f0f1e-6f0b-4c8c-9a55-0c3f1b6f5d7a")
_ID, _ROLE = "prefect.resource.id", "prefect.resource.role"
_OBJECT = re.compile(r"prefect\.(flow-run|task-run|flow|deployment|work-queue)\.([0-9a-f-]{36})")
# Named by the client beside its own run; they are not passed on.
_UNTOUCHED = re.compile(r"prefect\.(tag|work-pool)\..{1,300}", re.DOTALL)
MOST_RELATED = 64


class NotItsOwn(Exception):
    """An event is none, or speaks of what is not the site's; it is dropped."""


class TaskRun(Said):
    """A task run as the client knows it, without any id."""

    name: Name
    task_key: Name
    dynamic_key: Name
    run_count: Count = 0
    flow_run_run_count: Count = 0
    expected_start_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    total_run_time: Seconds = 0.0
    empirical_policy: Policy = Policy()


class TaskRunState(Said):
    """The payload of a task run's event."""

    initial_state: State | None = None
    validated_state: State
    task_run: TaskRun


class Event(Said):
    """An event as Prefect's client sends it."""

    id: UUID
    occurred: datetime
    event: Annotated[str, Field(max_length=80)]
    follows: UUID | None = None
    resource: dict[str, str]
    related: Annotated[tuple[dict[str, str], ...], Field(max_length=MOST_RELATED)] = ()
    payload: Any = None


async def own_event(text: str, own: Estate, api: Upstream) -> dict[str, Any]:
    """A site's event, written anew.

    Raises:
      NotItsOwn: it is no event of a task run or a flow run's heartbeat, or names an object that is
        not the site's.
      Refused: the API does not answer.
    """
    try:
        event = Event.model_validate_json(text)
        kind, about = _object(event.resource)
        named = [_object(one) for one in event.related if not _is_untouched(one)]
        if event.event == HEARTBEAT and kind == "flow-run":
            flow_run, resource, payload = about, _flow_run(about), {}
        elif TASK_RUN.fullmatch(event.event) and kind == "task-run":
            flow_run = _only(id_ for kind, id_ in named if kind == "flow-run")
            told = TaskRunState.model_validate(event.payload)
            resource, payload = _task_run(about, told), _payload(told)
        else:
            raise NotItsOwn
    except (ValidationError, ValueError):
        raise NotItsOwn from None
    known = {
        ("flow-run", flow_run),
        ("flow", own.flow),
        ("deployment", own.deployment),
        ("work-queue", own.queue),
    }
    if not set(named) <= known or not await api.owns_flow_run(own.site, flow_run):
        raise NotItsOwn
    if kind == "task-run" and not await api.claim_task_run(about, flow_run):
        raise NotItsOwn
    related = [
        *([{**_flow_run(flow_run), _ROLE: "flow-run"}] if kind == "task-run" else []),
        {_ID: f"prefect.flow.{own.flow}", _ROLE: "flow"},
        {_ID: f"prefect.deployment.{own.deployment}", _ROLE: "deployment"},
    ]
    return {
        "id": _id(event.id, own),
        "follows": _id(event.follows, own) if event.follows else None,
        "occurred": event.occurred.isoformat(),
        "event": event.event,
        "resource": resource,
        "related": related,
        "payload": payload,
    }


def _object(resource: dict[str, str]) -> tuple[str, UUID]:
    found = _OBJECT.fullmatch(resource.get(_ID, ""))
    if found is None:
        raise NotItsOwn
    return found[1], UUID(found[2])


def _is_untouched(resource: dict[str, str]) -> bool:
    return _UNTOUCHED.fullmatch(resource.get(_ID, "")) is not None


def _only(ids: Any) -> UUID:
    found = set(ids)
    if len(found) != 1:
        raise NotItsOwn
    return found.pop()


def _flow_run(id_: UUID) -> dict[str, str]:
    return {_ID: f"prefect.flow-run.{id_}"}


def _task_run(id_: UUID, told: TaskRunState) -> dict[str, str]:
    state = told.validated_state
    return {
        _ID: f"prefect.task-run.{id_}",
        "prefect.resource.name": told.task_run.name,
        "prefect.run-count": str(told.task_run.run_count),
        "prefect.state-message": state.message or "",
        "prefect.state-name": state.name or "",
        "prefect.state-type": state.type,
        "prefect.orchestration": "client",
    }


def _payload(told: TaskRunState) -> dict[str, Any]:
    before = told.initial_state.type if told.initial_state else None
    return {**told.words(), "intended": {"from": before, "to": told.validated_state.type}}


def _id(id_: UUID, own: Estate) -> str:
    return str(uuid5(_EVENTS, f"{own.site}/{id_}"))
