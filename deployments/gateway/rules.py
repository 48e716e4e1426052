"""The allow-list: what a site may ask of Prefect's API. Everything else is 403.

It is what one flow run with task runs needs of Prefect 3.8.8, seen through a proxy that wrote down
each request, and what our worker asks (``deployments/site/worker.py``). No path, query or header of
a site is passed on: each rule names its own, from values that it has read and checked. Task runs
are made by events (``events.py``). Not on the list: anything of another site or of the coordinator;
lists; blocks, variables, logs, artifacts, automations, concurrency limits; making, changing or
deleting deployments, pools and queues; the stream of events.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from pydantic import ValidationError

from deployments.gateway import answers, shapes
from deployments.gateway.upstream import NOT_YOURS, POOL, Refused, Upstream

Shape = TypeVar("Shape", bound=shapes.Said)


@dataclass(frozen=True)
class Call:
    """A request of a site.

    Attributes:
      site: whose token it has.
      values: what the rule's path names: ids, as UUIDs.
      body: as it came, within the bound.
      api: Prefect's.
    """

    site: str
    values: dict[str, Any]
    body: bytes
    api: Upstream

    def read(self, shape: type[Shape]) -> Shape:
        """The body as a message of this shape.

        Raises:
          Refused: it is none.
        """
        try:
            return shape.model_validate_json(self.body or b"{}")
        except ValidationError as error:
            field = error.errors()[0]["loc"][:1]
            known = field[0] if field and field[0] in shape.model_fields else "body"
            raise Refused(422, f"{known}: not as Prefect's client sends it") from None


@dataclass(frozen=True)
class Answer:
    """What a site hears."""

    status: int
    words: Any = None


Rule = Callable[[Call], Awaitable[Answer]]


async def version(call: Call) -> Answer:
    """The server's release, which clients compare with theirs."""
    found = await call.api.ask("GET", "/admin/version")
    return Answer(200, found if isinstance(found, str) else "")


async def health(call: Call) -> Answer:
    """Whether the API answers."""
    return Answer(200, await call.api.ask("GET", "/health") is True)


async def no_storage(call: Call) -> Answer:
    """Where results are kept by default: nowhere that is a site's business."""
    return Answer(200, {"default_result_storage_block_id": None})


async def no_csrf(call: Call) -> Answer:
    """A site is no browser: in Prefect's words, there is no protection and no token."""
    return Answer(422, {"detail": "CSRF protection is disabled."})


async def heartbeat(call: Call) -> Answer:
    """Its worker lives; the worker's name is the site's."""
    words = {**call.read(shapes.Heartbeat).words(), "name": call.site}
    await call.api.ask("POST", f"/work_pools/{POOL}/workers/heartbeat", words)
    return Answer(204)


async def poll(call: Call) -> Answer:
    """Runs that wait in its own queue."""
    asked = call.read(shapes.Poll)
    if asked.work_queue_names not in ([], [call.site]):
        raise Refused(403, NOT_YOURS)
    own = await call.api.estate(call.site)
    words = {**asked.words(), "work_queue_names": [call.site]}
    found = await call.api.ask("POST", f"/work_pools/{POOL}/get_scheduled_flow_runs", words)
    cut = answers.only("work_pool_id", "work_queue_id")
    return Answer(
        200,
        [
            {**cut(one), "flow_run": answers.flow_run(one["flow_run"])}
            for one in found
            if one["flow_run"]["deployment_id"] == str(own.deployment)
        ],
    )


async def read_pool(call: Call) -> Answer:
    """The pool of all sites, without its template of jobs."""
    found = answers.pool(await call.api.ask("GET", f"/work_pools/{POOL}"))
    return Answer(200, {**found, "base_job_template": {}})


async def read_queue(call: Call) -> Answer:
    """Its own queue, by id."""
    if call.values["id"] != (await call.api.estate(call.site)).queue:
        raise Refused(403, NOT_YOURS)
    return Answer(
        200, answers.queue(await call.api.ask("GET", f"/work_queues/{call.values['id']}"))
    )


async def read_queue_by_name(call: Call) -> Answer:
    """Its own queue, by name."""
    if call.values["name"] != call.site:
        raise Refused(403, NOT_YOURS)
    found = await call.api.ask("GET", f"/work_pools/{POOL}/queues/{call.site}")
    return Answer(200, answers.queue(found))


async def read_flow(call: Call) -> Answer:
    """The flow of all sites' deployments."""
    own = await call.api.estate(call.site)
    if call.values["id"] != own.flow:
        raise Refused(403, NOT_YOURS)
    return Answer(200, answers.flow(await call.api.ask("GET", f"/flows/{own.flow}")))


async def read_deployment(call: Call) -> Answer:
    """Its own deployment, by id."""
    own = await call.api.estate(call.site)
    if call.values["id"] != own.deployment:
        raise Refused(403, NOT_YOURS)
    found = await call.api.ask("GET", f"/deployments/{own.deployment}")
    return Answer(200, answers.deployment(found))


async def read_flow_run(call: Call) -> Answer:
    """A flow run of its own deployment."""
    id_: UUID = call.values["id"]
    await call.api.require_flow_run(call.site, id_)
    return Answer(200, answers.flow_run(await call.api.ask("GET", f"/flow_runs/{id_}")))


async def update_flow_run(call: Call) -> Answer:
    """What its run tells of itself as it starts: name, version, policy of retries."""
    id_: UUID = call.values["id"]
    words = call.read(shapes.RunUpdate).words()
    await call.api.require_flow_run(call.site, id_)
    await call.api.ask("PATCH", f"/flow_runs/{id_}", words)
    return Answer(204)


async def set_state(call: Call) -> Answer:
    """A state of its own flow run, without any result."""
    id_: UUID = call.values["id"]
    words = call.read(shapes.SetState).words()
    await call.api.require_flow_run(call.site, id_)
    found = await call.api.ask("POST", f"/flow_runs/{id_}/set_state", words)
    return Answer(201, answers.orchestrated(found))


async def find_flow_runs(call: Call) -> Answer:
    """Which of its own flow runs are in some state; every id must be its own."""
    asked = call.read(shapes.RunsAsked)
    ids = set(asked.flow_runs.id.any_)
    for id_ in ids:
        await call.api.require_flow_run(call.site, id_)
    found = await call.api.ask(
        "POST", "/flow_runs/filter", {**asked.words(), "limit": len(asked.flow_runs.id.any_)}
    )
    return Answer(200, [answers.flow_run(one) for one in found if UUID(one["id"]) in ids])


async def read_task_run(call: Call) -> Answer:
    """A task run of its own flow runs."""
    id_: UUID = call.values["id"]
    owner = await call.api.flow_run_of_task(id_)
    if owner is None:
        raise Refused(403, NOT_YOURS)
    await call.api.require_flow_run(call.site, owner)
    return Answer(200, answers.task_run(await call.api.ask("GET", f"/task_runs/{id_}")))


ALLOWED: tuple[tuple[str, str, Rule], ...] = (
    ("GET", "/admin/version", version),
    ("GET", "/health", health),
    ("GET", "/admin/storage", no_storage),
    ("GET", "/csrf-token", no_csrf),
    ("POST", f"/work_pools/{POOL}/workers/heartbeat", heartbeat),
    ("POST", f"/work_pools/{POOL}/get_scheduled_flow_runs", poll),
    ("GET", f"/work_pools/{POOL}", read_pool),
    ("GET", f"/work_pools/{POOL}/queues/{{name}}", read_queue_by_name),
    ("GET", "/work_queues/{id:uuid}", read_queue),
    ("GET", "/flows/{id:uuid}", read_flow),
    ("GET", "/deployments/{id:uuid}", read_deployment),
    ("GET", "/flow_runs/{id:uuid}", read_flow_run),
    ("PATCH", "/flow_runs/{id:uuid}", update_flow_run),
    ("POST", "/flow_runs/{id:uuid}/set_state", set_state),
    ("POST", "/flow_runs/filter", find_flow_runs),
    ("GET", "/task_runs/{id:uuid}", read_task_run),
)
