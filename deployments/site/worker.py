"""A site's worker: it asks Prefect for sessions of this site and starts nothing else.

A stock worker runs what the API tells it to: a command, an environment, a pull step, an entrypoint.
This one takes two parameters of a flow run, a run's id and a number, and starts the session that is
installed here; every other word of the API is ignored. It only calls out; nobody calls it.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from fedcore.chain import RUN_ID
from fedcore.digests import canonical_json
from fedcore.sites.folder import SiteFolder
from fedcore.store import Store

LOG = logging.getLogger("fedloom.site")
POOL = "sites"
HEARTBEAT_SECONDS = 30.0
# Each look at the queue is a change of Prefect's database; a session is opened once a run, and then
# looks at the mailbox often. Fifty sites that ask every two seconds hold up a server on SQLite.
POLL_SECONDS, SLOWEST_POLL_SECONDS = 5.0, 30.0
LOOK_SECONDS = 5.0  # at sessions under way: were they cancelled?
MOST_SESSIONS = 20
MOST_OPENINGS = 10**6

Attend = Callable[[SiteFolder, UUID, str, int, threading.Event], None]


class BadSession(ValueError):
    """What the API calls a session is none; the message names the field."""


def session_of(flow_run: Mapping[str, Any]) -> tuple[UUID, str, int]:
    """(flow run, run, opening) in what the API says of a flow run.

    Raises:
      BadSession: an id or a parameter is not of its form, or there are others.
    """
    try:
        id_ = UUID(flow_run["id"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadSession("id") from None
    parameters = flow_run.get("parameters")
    if not isinstance(parameters, dict) or not {"run"} <= set(parameters) <= {"run", "opening"}:
        raise BadSession("parameters")
    run, opening = parameters["run"], parameters.get("opening", 1)
    if not isinstance(run, str) or not RUN_ID.fullmatch(run):
        raise BadSession("run")
    if type(opening) is not int or not 1 <= opening <= MOST_OPENINGS:
        raise BadSession("opening")
    return id_, run, opening


@dataclass
class _Session:
    run: str
    opening: int
    thread: threading.Thread
    stop: threading.Event


@dataclass
class SiteWorker:
    """One site's.

    Attributes:
      site: the folder.
      api: Prefect's API, through the gateway; with the site's own token.
      attend: attends a session until it is over or told to stop.
    """

    site: SiteFolder
    api: httpx.Client
    attend: Attend
    _sessions: dict[UUID, _Session] = field(default_factory=dict)

    def serve(self, until: Callable[[], bool] = lambda: False) -> None:
        """Looks for sessions until told to stop; an API that is away is waited for."""
        name = self.site.settings.name
        pause, beat, looked, is_away, is_new = POLL_SECONDS, 0.0, 0.0, False, True
        while not until():
            now = time.monotonic()
            try:
                if is_new:
                    self._take_up()
                    is_new = False
                if now - beat >= HEARTBEAT_SECONDS:
                    self._post(f"work_pools/{POOL}/workers/heartbeat", _heartbeat(name))
                    beat = now
                if now - looked >= LOOK_SECONDS:
                    self._look()
                    looked = now
                self._start_scheduled(name)
                pause = POLL_SECONDS
                if is_away:
                    LOG.warning("Prefect answers again.")
                is_away = False
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                if not is_away:
                    LOG.warning("Nothing can be asked of Prefect now: %r. Trying again.", error)
                is_away, pause = True, min(SLOWEST_POLL_SECONDS, pause * 2)
            time.sleep(pause * random.uniform(0.7, 1.3))  # not all sites at once
        for session in self._sessions.values():
            session.stop.set()
        for session in self._sessions.values():
            session.thread.join(LOOK_SECONDS)

    def _take_up(self) -> None:
        """Sessions that an earlier worker of this folder had are started again."""
        for id_ in self._noted():
            state = self._state(id_)
            if state in ("RUNNING", "PENDING", "CRASHED"):
                self._set_state(id_, "SCHEDULED", "AwaitingRetry", force=True)
            elif state == "CANCELLING":
                self._set_state(id_, "CANCELLED", "Cancelled", force=True)
        self._note()

    def _start_scheduled(self, name: str) -> None:
        room = MOST_SESSIONS - len(self._sessions)
        if room <= 0:
            return
        before = datetime.now(UTC) + timedelta(seconds=1)
        words = {
            "work_queue_names": [name],
            "scheduled_before": before.isoformat(),
            "limit": room,
        }
        for one in self._post(f"work_pools/{POOL}/get_scheduled_flow_runs", words):
            try:
                id_, run, opening = session_of(one["flow_run"])
            except (BadSession, KeyError, TypeError) as error:
                LOG.error("Something that is no session was scheduled here: %s.", error)
                continue
            if id_ not in self._sessions:
                self._start(id_, run, opening)

    def _start(self, id_: UUID, run: str, opening: int) -> None:
        same = [one for one in self._sessions.values() if one.run == run]
        if any(one.opening >= opening for one in same):
            self._set_state(id_, "CANCELLED", "Cancelled", "This site attends the run already.")
            return
        for one in same:  # the run was taken up again: nobody writes to that session any more
            one.stop.set()
        if not self._set_state(id_, "PENDING", "Pending"):
            return
        stop = threading.Event()

        def work() -> None:
            try:
                self.attend(self.site, id_, run, opening, stop)
            except Exception:
                LOG.exception("%s: the session ended.", run)

        thread = threading.Thread(target=work, name=f"session {run}", daemon=True)
        self._sessions[id_] = _Session(run, opening, thread, stop)
        self._note()
        thread.start()
        LOG.info("%s: attending.", run)

    def _look(self) -> None:
        """Ends sessions that were cancelled, and forgets those that are over."""
        for id_, session in list(self._sessions.items()):
            is_over, state = not session.thread.is_alive(), self._state(id_)
            if is_over:
                # The run ended while this site was away: what came after was too late for Prefect.
                if state == "CANCELLING":
                    self._set_state(id_, "CANCELLED", "Cancelled", force=True)
                del self._sessions[id_]
                self._note()
                LOG.info("%s: no longer attending.", session.run)
            elif state in ("CANCELLING", "CANCELLED"):
                session.stop.set()

    def _noted(self) -> list[UUID]:
        try:
            found = json.loads(self.site.store.read(_NOTE))
            return [UUID(one) for one in found]
        except (FileNotFoundError, ValueError):
            return []

    def _note(self) -> None:
        """So that a worker after this one, also on a rebuilt machine, takes them up."""
        ids = sorted(str(id_) for id_ in self._sessions)
        Store(self.site.path / "store").write(_NOTE, canonical_json(ids).encode())

    def _set_state(
        self, id_: UUID, kind: str, name: str, message: str = "", *, force: bool = False
    ) -> bool:
        state = {"type": kind, "name": name, "message": message}
        answer = self._post(f"flow_runs/{id_}/set_state", {"state": state, "force": force})
        return isinstance(answer, dict) and answer.get("status") == "ACCEPT"

    def _state(self, id_: UUID) -> str:
        """The type of its state; a flow run that was deleted counts as cancelled."""
        answer = self.api.get(f"flow_runs/{id_}")
        if answer.status_code == 404:
            return "CANCELLED"
        answer.raise_for_status()
        return str((_object(answer).get("state") or {}).get("type", ""))

    def _post(self, path: str, words: Mapping[str, Any]) -> Any:
        answer = self.api.post(path, json=words)
        answer.raise_for_status()
        return answer.json() if answer.content else None


_NOTE = "sessions.json"


def _object(answer: httpx.Response) -> dict[str, Any]:
    found = answer.json()
    if not isinstance(found, dict):
        raise httpx.DecodingError("an answer of the API is no object", request=answer.request)
    return found


def _heartbeat(name: str) -> dict[str, Any]:
    return {"name": name, "heartbeat_interval_seconds": HEARTBEAT_SECONDS}


def attend_flow_run(
    site: SiteFolder, id_: UUID, run: str, opening: int, stop: threading.Event
) -> None:
    """A session as the flow run that Prefect shows; only its states and tasks' labels are sent."""
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow

    from flows.site_session import site_session
    from tasks.site_work import Attending, attending

    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(id_)
    with attending(Attending(site, stop)):
        run_flow(
            site_session,
            flow_run=flow_run,
            parameters={"run": run, "opening": opening},
            return_type="state",
        )


def prefect_environment(site: SiteFolder, url: str, token: str) -> dict[str, str]:
    """Prefect's settings at a site, set before anything of Prefect is imported: no profile of
    somebody else's, and nothing but states and labels is sent."""
    # Not an API key: Prefect 3.8.8 sends that with requests, but not with its events.
    word = {"PREFECT_API_AUTH_STRING": f"{site.settings.name}:{token}"} if token else {}
    return {
        "PREFECT_HOME": str(site.path / "prefect"),
        "PREFECT_API_URL": url,
        **word,
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }


def main() -> None:
    """``python -m deployments.site.worker FOLDER...``: a worker of one site; of several that share
    an API without tokens, in one process, where a simulation has more sites than processes."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    sites = [SiteFolder(Path(word)) for word in sys.argv[1:]]
    url, token = sites[0].settings.api, sites[0].token
    if not url:
        raise SystemExit(f"{sites[0].path}/site.yaml has no api: what the coordinator gave.")
    if len(sites) > 1 and any(site.token or site.settings.api != url for site in sites):
        raise SystemExit("Sites of one process share an API and have no token: one site, please.")
    os.environ.update(prefect_environment(sites[0], url, token))
    import_module("flows.site_session")  # half a minute on a small machine: before, not in a run
    # Only now, since the import sets loggers up anew. A site pauses by its own status.
    logging.getLogger("prefect.FlowRunSuspendingObserver").setLevel(logging.CRITICAL)
    for site in sites[1:]:
        threading.Thread(target=_serve, args=(site, url, token), daemon=True).start()
    _serve(sites[0], url, token)


def _serve(site: SiteFolder, url: str, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=f"{url.rstrip('/')}/", headers=headers, timeout=30) as api:
        SiteWorker(site, api, attend_flow_run).serve()


if __name__ == "__main__":
    main()
