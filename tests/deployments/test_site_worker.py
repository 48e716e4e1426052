"""A site's worker against an API that says anything."""

import json
import threading
import time
import uuid

import httpx
import pytest

from deployments.site.worker import BadSession, SiteWorker, prefect_environment, session_of
from fedcore.data.sklearn_tables import Digits
from fedcore.sites.folder import SiteSettings, make_site

RUN = "6d2f7e68-d4ce-4ba3-9167-c2756f56a24d"
ONE, TWO = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


class Api:
    """Prefect's API as a coordinator would have it."""

    def __init__(self):
        self.scheduled, self.states, self.posted, self.away = [], {}, [], 0
        self.deleted = set()
        self.client = httpx.Client(
            base_url="http://api/api/", transport=httpx.MockTransport(self.answer)
        )

    def answer(self, request):
        if self.away:
            self.away -= 1
            raise httpx.ConnectError("no route", request=request)
        path, words = request.url.path, json.loads(request.content or b"null")
        self.posted.append((path, words))
        if path.endswith("get_scheduled_flow_runs"):
            found, self.scheduled = self.scheduled, []
            return httpx.Response(200, json=[{"flow_run": one} for one in found])
        if path.endswith("set_state"):
            id_ = path.split("/")[-2]
            self.states[id_] = words["state"]["type"]
            return httpx.Response(201, json={"status": "ACCEPT"})
        if "/flow_runs/" in path:
            if path.rsplit("/", 1)[-1] in self.deleted:
                return httpx.Response(404)
            kind = self.states.get(path.rsplit("/", 1)[-1], "RUNNING")
            return httpx.Response(200, json={"state": {"type": kind}})
        return httpx.Response(204)


def flow_run(id_=ONE, **parameters):
    return {"id": id_, "parameters": {"run": RUN, **parameters}}


@pytest.fixture
def api(monkeypatch):
    for name in ("POLL_SECONDS", "SLOWEST_POLL_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(f"deployments.site.worker.{name}", 0.01)
    return Api()


@pytest.fixture
def site(tmp_path):
    settings = SiteSettings(name="ward", data=Digits(), mailbox=str(tmp_path / "mail"))
    return make_site(tmp_path / "ward", settings, "")


class Sessions:
    """Attends until told to stop, and notes with what it was started."""

    def __init__(self):
        self.started, self.stopped = [], []

    def __call__(self, site, id_, run, opening, stop):
        self.started.append((str(id_), run, opening))
        stop.wait(10)
        self.stopped.append(str(id_))


def served(site, api, until):
    """What a worker did until something held, or ten seconds passed."""
    sessions, ends = Sessions(), time.monotonic() + 10
    worker = SiteWorker(site, api.client, sessions)
    over = threading.Event()

    def is_over():
        if until(sessions) or time.monotonic() > ends:
            over.set()
        return over.is_set()

    worker.serve(is_over)
    assert until(sessions)
    return sessions


def test_a_session_is_two_parameters_and_every_other_word_is_ignored(site, api):
    hostile = flow_run(opening=3) | {
        "entrypoint": "evil.py:run",
        "job_variables": {"command": "rm -rf /", "env": {"LD_PRELOAD": "/tmp/x.so"}},
        "pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": "id"}}],
        "infrastructure_document_id": TWO,
    }
    api.scheduled = [hostile]
    sessions = served(site, api, lambda seen: seen.started)
    assert sessions.started == [(ONE, RUN, 3)] and api.states[ONE] == "PENDING"
    asked = {path.removeprefix("/api/") for path, _ in api.posted}
    assert asked <= {
        "work_pools/sites/workers/heartbeat",
        "work_pools/sites/get_scheduled_flow_runs",
        f"flow_runs/{ONE}/set_state",
        f"flow_runs/{ONE}",
    }
    polled = [words for path, words in api.posted if path.endswith("get_scheduled_flow_runs")]
    assert all(words["work_queue_names"] == ["ward"] for words in polled)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({}, "id"),
        ({"id": "../../etc"}, "id"),
        ({"id": ONE}, "parameters"),
        ({"id": ONE, "parameters": {"run": RUN, "command": "id"}}, "parameters"),
        (flow_run(run="../../../etc/passwd"), "run"),
        (flow_run(run=7), "run"),
        (flow_run(opening="1"), "opening"),
        (flow_run(opening=True), "opening"),
        (flow_run(opening=0), "opening"),
    ],
)
def test_what_is_no_session_is_refused_by_its_field(said, field):
    with pytest.raises(BadSession, match=f"^{field}$"):
        session_of(said)


def test_what_is_no_session_starts_nothing_and_stops_nothing(site, api):
    api.scheduled = [{"id": "x"}, flow_run(run="/etc"), flow_run(TWO)]
    assert served(site, api, lambda seen: seen.started).started == [(TWO, RUN, 1)]


def test_a_cancelled_session_is_stopped(site, api):
    api.scheduled = [flow_run()]

    def until(seen):
        if seen.started:
            api.states[ONE] = "CANCELLING"
        return seen.stopped == [ONE]

    served(site, api, until)


def test_a_session_that_ended_after_its_run_is_not_left_as_cancelling(site, api):
    """The site was away when the run ended: Prefect refuses the session's own last state."""
    api.scheduled = [flow_run()]

    def work(site, id_, run, opening, stop):
        api.states[ONE] = "CANCELLING"

    ends = time.monotonic() + 10
    worker = SiteWorker(site, api.client, work)
    worker.serve(lambda: api.states.get(ONE) == "CANCELLED" or time.monotonic() > ends)
    assert api.states[ONE] == "CANCELLED" and json.loads(site.store.read("sessions.json")) == []


def test_a_session_whose_flow_run_was_deleted_is_stopped_and_forgotten(site, api):
    api.scheduled = [flow_run()]

    def until(seen):
        if seen.started:
            api.deleted = {ONE}
        return seen.stopped and json.loads(site.store.read("sessions.json")) == []

    served(site, api, until)


def test_a_run_that_was_taken_up_again_replaces_its_session_and_no_older_one_does(site, api):
    api.scheduled = [flow_run(opening=2)]

    def until(seen):
        if len(seen.started) == 1 and not api.scheduled and TWO not in api.states:
            api.scheduled = [flow_run(TWO, opening=1)]
        if api.states.get(TWO) == "CANCELLED":
            api.scheduled = [flow_run(str(uuid.UUID(int=3)), opening=3)]
            api.states[TWO] = "seen"
        return len(seen.started) == 2 and seen.stopped[:1] == [ONE]

    sessions = served(site, api, until)
    assert [opening for _, _, opening in sessions.started] == [2, 3]


def test_an_api_that_is_away_at_the_start_is_waited_for(site, api):
    api.away, api.scheduled = 5, [flow_run()]
    assert served(site, api, lambda seen: seen.started).started == [(ONE, RUN, 1)]


def test_a_rebuilt_machine_takes_up_its_sessions(site, api):
    api.scheduled = [flow_run()]
    served(site, api, lambda seen: seen.started)
    api.states[ONE] = "RUNNING"
    served(site, api, lambda seen: api.states[ONE] == "SCHEDULED")
    forced = [words["force"] for path, words in api.posted if path.endswith("set_state")]
    assert forced[-1] is True


def test_prefect_at_a_site_sends_no_logs_and_keeps_to_the_sites_own_folder(site):
    found = prefect_environment(site, "https://host/api", "token")
    assert found["PREFECT_LOGGING_TO_API_ENABLED"] == "false"
    assert found["PREFECT_HOME"].startswith(str(site.path))
    assert found["PREFECT_API_AUTH_STRING"] == "ward:token"
