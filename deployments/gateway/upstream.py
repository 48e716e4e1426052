"""Prefect's API as the gateway sees it, and which of its objects are whose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
from cachetools import LRUCache, TTLCache

POOL = "sites"
FLOW = "site-session"
# A deployment that is made anew has another id.
SECONDS_KNOWN = 30.0
MOST_KNOWN = 100_000
# What a site hears as it is: try again, it is gone, it is locked, it cannot be.
TOLD = frozenset({404, 409, 422, 423, 429, 503})


class Refused(Exception):
    """A site is told no: a status and a reason that holds nothing of what it said."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


NOT_YOURS = "not this site's"


@dataclass(frozen=True)
class Estate:
    """What belongs to one site."""

    site: str
    deployment: UUID
    flow: UUID
    queue: UUID | None


@dataclass(frozen=True)
class Upstream:
    """The API, called with the gateway's own credentials.

    Attributes:
      client: its base is the API's address; it carries the credentials.
    """

    client: httpx.AsyncClient
    _estates: TTLCache[str, Estate] = field(default_factory=lambda: TTLCache(1000, SECONDS_KNOWN))
    # Neither a flow run's deployment nor a task run's flow run ever changes.
    _flow_runs: LRUCache[UUID, str] = field(default_factory=lambda: LRUCache(MOST_KNOWN))
    _task_runs: LRUCache[UUID, UUID] = field(default_factory=lambda: LRUCache(MOST_KNOWN))

    async def ask(self, method: str, path: str, words: Any = None) -> Any:
        """The API's answer; None when it has no body.

        Raises:
          Refused: it did not answer, or said no; of its own words none is repeated.
        """
        try:
            answer = await self.client.request(
                method, path, json=words, headers={"Accept": "application/json"}
            )
            if answer.is_success:
                return answer.json() if answer.content else None
        except (httpx.HTTPError, ValueError):
            raise Refused(502, "the API does not answer") from None
        raise Refused(answer.status_code if answer.status_code in TOLD else 502, "the API says no")

    async def estate(self, site: str) -> Estate:
        """What belongs to a site.

        Raises:
          Refused: it has no deployment (yet).
        """
        if site not in self._estates:
            found = await self.ask("GET", f"/deployments/name/{FLOW}/{quote(site, safe='')}")
            queue = found.get("work_queue_id")
            self._estates[site] = Estate(
                site,
                UUID(found["id"]),
                UUID(found["flow_id"]),
                UUID(queue) if queue else None,
            )
        return self._estates[site]

    async def owns_flow_run(self, site: str, id_: UUID) -> bool:
        """Whether a flow run is of the site's own deployment."""
        if id_ not in self._flow_runs:
            try:
                found = await self.ask("GET", f"/flow_runs/{id_}")
            except Refused as error:
                if error.status == 404:
                    return False
                raise
            self._flow_runs[id_] = str(found.get("deployment_id"))
        return self._flow_runs[id_] == str((await self.estate(site)).deployment)

    async def require_flow_run(self, site: str, id_: UUID) -> None:
        """Raises Refused when a flow run is not the site's; one that is none is told no other."""
        if not await self.owns_flow_run(site, id_):
            raise Refused(403, NOT_YOURS)

    async def flow_run_of_task(self, id_: UUID) -> UUID | None:
        """The flow run of a task run; None when the API knows no such task run."""
        if id_ in self._task_runs:
            return self._task_runs[id_]
        try:
            found = await self.ask("GET", f"/task_runs/{id_}")
        except Refused as error:
            if error.status == 404:
                return None
            raise
        # A task run without a flow run is nobody's: nil is no flow run's id.
        owner = UUID(found.get("flow_run_id") or str(UUID(int=0)))
        return self._task_runs.setdefault(id_, owner)

    async def claim_task_run(self, id_: UUID, flow_run: UUID) -> bool:
        """Whether a task run is, or from now on is, of this flow run.

        The server makes task runs of events, by the id that the event says, some seconds later: who
        says an id first has it.
        """
        if await self.flow_run_of_task(id_) is None:
            self._task_runs.setdefault(id_, flow_run)
        return self._task_runs.get(id_) == flow_run
