"""The gateway before a stub of Prefect's API that believes everything it hears."""

import asyncio
import base64
import json
import stat
from contextlib import contextmanager
from types import SimpleNamespace
from uuid import UUID

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from typer.testing import CliRunner

from deployments.cli.gateway import app as gateway_commands
from deployments.gateway.app import make_app
from deployments.gateway.door import Door
from deployments.gateway.limits import Bucket, Limits, read_limits
from deployments.gateway.rules import ALLOWED
from deployments.gateway.tokens import Tokens, tokens_file
from deployments.gateway.upstream import Refused
from deployments.stack.options import with_gateway
from deployments.stack.services import services
from deployments.stack.stack import Stack, StackError, read_stack, write_stack

SECRET = "canary-of-the-api"


def id_of(kind, site):
    """An id that says what it is of."""
    kinds = ["deployment", "queue", "flow-run", "task-run", "flow", "event"]
    return str(UUID(int=(kinds.index(kind) + 1) * 2**64 + ["own", "sister", "any"].index(site)))


FLOW = id_of("flow", "any")
OWN, SISTER = id_of("flow-run", "own"), id_of("flow-run", "sister")
NEW_TASK, UNKNOWN = str(UUID(int=7)), str(UUID(int=8))
STATE = {"type": "COMPLETED", "message": "over", "data": {"storage_key": "x"}}
DETAILS = {"deployment_concurrency_lease_id": UNKNOWN, "cache_key": "k", "task_run_id": UNKNOWN}


def flow_run(site, **more):
    state = {"id": UNKNOWN, "type": "PENDING", "data": SECRET, "state_details": DETAILS}
    return {
        "id": id_of("flow-run", site),
        "deployment_id": id_of("deployment", site),
        "parameters": {"run": "r"},
        "state": state,
        "job_variables": {"env": SECRET},
        "created_by": SECRET,
        **more,
    }


class Stub:
    """Prefect's API, of which it keeps what it was asked."""

    def __init__(self):
        self.heard, self.broken = [], None
        methods = ["GET", "POST", "PATCH", "PUT", "DELETE"]
        self.app = Starlette(routes=[Route("/{path:path}", self.answer, methods=methods)])

    async def answer(self, request):
        path, body = request.url.path, await request.body()
        words = json.loads(body) if body else None
        self.heard.append((request.method, path, words))
        if self.broken:
            return JSONResponse({"detail": SECRET}, self.broken)
        return self.of(path, words)

    def of(self, path, words):
        known = {"/health": True, "/admin/version": "3.8.8", "/flows/" + FLOW: {"id": FLOW}}
        pool = "/work_pools/sites"
        known[pool] = {"name": "sites", "base_job_template": {"a": SECRET}}
        known[f"{pool}/get_scheduled_flow_runs"] = [
            {"work_pool_id": UNKNOWN, "flow_run": flow_run(site)} for site in ("own", "sister")
        ]
        known["/flow_runs/filter"] = [flow_run("own"), flow_run("sister")]
        for site in ("own", "sister"):
            deployment = {
                **{"id": id_of("deployment", site), "flow_id": FLOW, "parameters": SECRET},
                **{"work_queue_id": id_of("queue", site), "work_queue_name": site},
            }
            task = {"id": id_of("task-run", site), "flow_run_id": id_of("flow-run", site)}
            known[f"/deployments/name/site-session/{site}"] = deployment
            known[f"/deployments/{deployment['id']}"] = deployment
            known[f"/work_queues/{id_of('queue', site)}"] = {"name": site, "filter": SECRET}
            known[f"{pool}/queues/{site}"] = {"name": site, "filter": SECRET}
            known[f"/flow_runs/{id_of('flow-run', site)}"] = flow_run(site)
            known[f"/task_runs/{task['id']}"] = {**task, "task_inputs": SECRET}
        if path.endswith("/set_state"):
            return JSONResponse({"status": "ACCEPT", "state": STATE, "details": {"a": SECRET}}, 201)
        if path.endswith("/heartbeat") or path == "/events":
            return Response(status_code=204)
        if path in known:
            return JSONResponse(known[path])
        return JSONResponse({"detail": SECRET}, 404)

    def passed(self):
        """What it was asked beside the gateway's own questions."""
        return [one for one in self.heard if one[0] != "GET"]


@contextmanager
def gateway(folder, **limits):
    stub, tokens = Stub(), Tokens(tokens_file(folder))
    words = {site: tokens.issue(site) for site in ("own", "sister")}
    transport = httpx.ASGITransport(stub.app)
    api = httpx.AsyncClient(transport=transport, base_url="http://api")
    app = make_app(tokens, Limits(**limits), api)
    with TestClient(app) as client:
        client.headers["Authorization"] = f"Bearer {words['own']}"
        yield SimpleNamespace(
            client=client, stub=stub, tokens=tokens, words=words, door=app.state.door
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with gateway(tmp_path_factory.mktemp("home"), burst=100_000) as one:
        yield one


@pytest.fixture
def open_gateway(shared):
    shared.stub.heard.clear()
    shared.door.refused.clear()
    return shared


# -- the allow-list -----------------------------------------------------------------------------

POLL = "/work_pools/sites/get_scheduled_flow_runs"
PASSED = [
    ("GET", "/admin/version", None),
    ("GET", "/health", None),
    ("POST", "/work_pools/sites/workers/heartbeat", {"name": "sister"}),
    ("POST", POLL, {"work_queue_names": ["own"], "limit": 5}),
    ("GET", "/work_pools/sites", None),
    ("GET", "/work_pools/sites/queues/own", None),
    ("GET", f"/work_queues/{id_of('queue', 'own')}", None),
    ("GET", f"/flows/{FLOW}", None),
    ("GET", f"/deployments/{id_of('deployment', 'own')}", None),
    ("GET", f"/flow_runs/{OWN}", None),
    ("PATCH", f"/flow_runs/{OWN}", {"name": "run", "empirical_policy": {"retries": 0}}),
    ("POST", f"/flow_runs/{OWN}/set_state", {"state": STATE, "force": True}),
    ("POST", "/flow_runs/filter", {"flow_runs": {"id": {"any_": [OWN]}}}),
    ("GET", f"/task_runs/{id_of('task-run', 'own')}", None),
]


@pytest.mark.parametrize(("how", "path", "words"), PASSED)
def test_a_site_may(open_gateway, how, path, words):
    answer = open_gateway.client.request(how, f"/api{path}", json=words)
    assert answer.status_code in (200, 201, 204), answer.text
    assert (how, path) in [one[:2] for one in open_gateway.stub.heard]
    assert SECRET not in answer.text and SISTER not in answer.text


def test_every_rule_is_in_a_table_of_this_file():
    told = {"/admin/storage", "/csrf-token"}  # which the gateway answers by itself
    assert len(ALLOWED) == len(PASSED) + len(told)


OWN_PATH = f"/flow_runs/{OWN}"
REFUSED = [
    # Another site's, by every id and name there is.
    ("POST", POLL, {"work_queue_names": ["sister"]}),
    ("GET", "/work_pools/sites/queues/sister", None),
    ("GET", f"/work_queues/{id_of('queue', 'sister')}", None),
    ("GET", f"/deployments/{id_of('deployment', 'sister')}", None),
    ("GET", f"/flow_runs/{SISTER}", None),
    ("PATCH", f"/flow_runs/{SISTER}", {"name": "mine"}),
    ("POST", f"/flow_runs/{SISTER}/set_state", {"state": STATE}),
    ("POST", f"/flow_runs/{UNKNOWN}/set_state", {"state": STATE}),
    ("POST", "/flow_runs/filter", {"flow_runs": {"id": {"any_": [OWN, SISTER]}}}),
    ("GET", f"/task_runs/{id_of('task-run', 'sister')}", None),
    ("GET", f"/task_runs/{UNKNOWN}", None),
    ("GET", f"/flows/{UNKNOWN}", None),
    # Other pools, and the stack's own.
    ("GET", "/work_pools/fedloom", None),
    ("POST", "/work_pools/fedloom/get_scheduled_flow_runs", {}),
    ("POST", "/work_pools/fedloom/workers/heartbeat", {"name": "own"}),
    # Lists, and what may be made, changed and deleted.
    *(
        ("POST", f"/{kind}/{what}", {})
        for kind in ("flow_runs", "task_runs", "deployments", "flows", "logs", "artifacts")
        for what in ("", "filter", "count", "paginate")
        if (kind, what) != ("flow_runs", "filter")
    ),
    ("POST", "/work_pools/filter", {}),
    ("POST", "/work_pools/sites/queues/filter", {}),
    ("POST", "/work_pools/sites/queues", {"name": "own"}),
    ("POST", "/work_pools/sites/workers/filter", {}),
    ("PATCH", "/work_pools/sites", {"is_paused": True}),
    ("PATCH", "/work_pools/sites/queues/own", {"is_paused": True}),
    ("DELETE", "/work_pools/sites/queues/own", None),
    ("PATCH", f"/deployments/{id_of('deployment', 'own')}", {"pull_steps": []}),
    ("DELETE", f"/deployments/{id_of('deployment', 'own')}", None),
    ("POST", f"/deployments/{id_of('deployment', 'own')}/create_flow_run", {}),
    ("GET", "/deployments/name/train-federated/custom", None),
    ("DELETE", OWN_PATH, None),
    ("HEAD", OWN_PATH, None),
    ("PUT", OWN_PATH, {}),
    ("PATCH", f"{OWN_PATH}/labels", {}),
    ("POST", f"{OWN_PATH}/input", {}),
    ("POST", f"{OWN_PATH}/resume", {}),
    ("GET", f"{OWN_PATH}/graph-v2", None),
    ("GET", f"{OWN_PATH}/logs/download", None),
    ("POST", "/flow_runs/bulk_set_state", {}),
    ("POST", f"/task_runs/{id_of('task-run', 'own')}/set_state", {"state": STATE}),
    ("GET", "/block_documents/name/x", None),
    ("POST", "/block_documents/filter", {}),
    ("POST", "/variables/filter", {}),
    ("GET", "/variables/name/x", None),
    ("POST", "/events", []),
    ("POST", "/events/filter", {}),
    ("POST", "/automations/filter", {}),
    ("POST", "/v2/concurrency_limits/increment", {}),
    ("POST", "/v2/concurrency_limits/increment-with-lease", {}),
    ("POST", "/v2/concurrency_limits/filter", {}),
    ("GET", "/admin/settings", None),
    ("POST", "/admin/database/clear", {"confirm": True}),
    # Around the rules.
    ("GET", f"{OWN_PATH}/", None),
    ("GET", f"/flow_runs/{OWN}/../{SISTER}", None),
    ("GET", f"/flow_runs/{OWN}%2F..%2F{SISTER}", None),
    ("GET", "//flow_runs/filter", None),
    ("GET", f"/FLOW_RUNS/{OWN}", None),
    ("GET", "/work_pools/sites/queues/own%2F..%2Fsister", None),
]


@pytest.mark.parametrize(("how", "path", "words"), REFUSED)
def test_a_site_may_not(open_gateway, how, path, words):
    answer = open_gateway.client.request(how, f"/api{path}", json=words)
    assert answer.status_code == 403
    assert SECRET not in answer.text
    assert open_gateway.stub.passed() == []
    assert open_gateway.door.refused.total() == 1


@pytest.mark.parametrize(("how", "path"), [rule[:2] for rule in ALLOWED if "{" in rule[1]])
def test_no_id_and_no_name_of_a_sister_opens_anything(open_gateway, how, path):
    ids = [id_of(kind, "sister") for kind in ("deployment", "queue", "flow-run", "task-run")]
    for other in (*ids, *(one.replace("-", "") for one in ids), "sister", "..%2f", "own%2e"):
        full = path.replace("{id:uuid}", other).replace("{name}", other)
        words = {"state": STATE} if how == "POST" else {} if how == "PATCH" else None
        answer = open_gateway.client.request(how, f"/api{full}", json=words)
        assert answer.status_code == 403, other
    assert open_gateway.stub.passed() == []


def test_outside_of_the_api_there_is_nothing(open_gateway):
    for path in ("/", "/docs", "/mlflow/", "/api", "/openapi.json"):
        assert open_gateway.client.get(path).status_code == 403
    assert open_gateway.client.get("/alive").text == "OK"
    assert open_gateway.stub.heard == []


def test_what_is_passed_on_is_written_anew(open_gateway):
    client, stub = open_gateway.client, open_gateway.stub
    client.post("/api/work_pools/sites/workers/heartbeat", json={"name": "sister", "x": 1})
    words = {"limit": 3, "work_queue_ids": [id_of("queue", "sister")]}
    client.post(f"/api{POLL}?work_queue_names=sister", json=words)
    hostile = {
        **{"id": SISTER, "deployment_id": SISTER, "tags": ["x"], "parameters": {"a": 1}},
        **{"job_variables": {"env": {}}, "infrastructure_pid": "1", "flow_version": "v"},
    }
    client.patch(f"/api{OWN_PATH}", json=hostile)
    state = {**STATE, "id": SISTER, "state_details": {**DETAILS, "flow_run_id": SISTER}}
    client.post(f"/api{OWN_PATH}/set_state", json={"state": state, "flow_run_id": SISTER})
    assert [words for how, _, words in stub.passed()] == [
        {"name": "own"},
        {"limit": 3, "work_queue_names": ["own"]},
        {"flow_version": "v"},
        {"state": {"type": "COMPLETED", "message": "over", "state_details": {}}},
    ]


def test_what_comes_back_is_cut_to_the_sites_own(open_gateway):
    found = open_gateway.client.post(f"/api{POLL}", json={}).json()
    assert [one["flow_run"]["id"] for one in found] == [OWN]
    run = open_gateway.client.get(f"/api{OWN_PATH}").json()
    assert run["parameters"] == {"run": "r"}
    assert run["state"] == {"id": UNKNOWN, "type": "PENDING", "state_details": run_details(run)}
    asked = {"flow_runs": {"id": {"any_": [OWN]}}}
    found = open_gateway.client.post("/api/flow_runs/filter", json=asked).json()
    assert [one["id"] for one in found] == [OWN]


def run_details(run):
    assert not run["state"]["state_details"].keys() & {"cache_key", *DETAILS} - {"task_run_id"}
    return run["state"]["state_details"]


def test_a_site_hears_no_word_of_the_apis_errors(tmp_path):
    with gateway(tmp_path) as one:
        for said, heard in ((500, 502), (401, 502), (403, 502), (503, 503), (429, 429), (404, 404)):
            one.stub.broken = said
            answer = one.client.get("/api/work_pools/sites")
            assert answer.status_code == heard and SECRET not in answer.text


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"state": {"type": "BROKEN"}}', b'{"state": 1}', b"\xff", b"[" * 50_000],
)
def test_a_body_that_is_none_is_told_so_without_repeating_it(open_gateway, body):
    answer = open_gateway.client.post(f"/api{OWN_PATH}/set_state", content=body)
    assert answer.status_code == 422
    assert "BROKEN" not in answer.text
    assert open_gateway.stub.passed() == []


def test_a_long_message_is_cut_and_not_refused(open_gateway):
    state = {"type": "FAILED", "message": "x" * 100_000}
    open_gateway.client.post(f"/api{OWN_PATH}/set_state", json={"state": state})
    (_, _, words), *_ = open_gateway.stub.passed()
    assert len(words["state"]["message"]) == 2000


# -- tokens and limits --------------------------------------------------------------------------


def basic(name, token):
    return "Basic " + base64.b64encode(f"{name}:{token}".encode()).decode()


def test_only_a_known_token_opens(open_gateway):
    own, sister = open_gateway.words["own"], open_gateway.words["sister"]

    def status(authorization):
        return open_gateway.client.get(
            f"/api{OWN_PATH}", headers={"Authorization": authorization}
        ).status_code

    assert status(f"Bearer {own}") == status(basic("own", own)) == 200
    assert status(f"Bearer {sister}") == status(basic("sister", sister)) == 403
    heard = len(open_gateway.stub.heard)
    hashed = open_gateway.tokens.hashes()["own"]
    for wrong in (
        *("", "Bearer", "Bearer ", f"Bearer {own}x", f"Bearer {hashed}", own, "Basic x"),
        *(basic("sister", own), basic("", own), basic("own", ""), f"Digest {own}"),
    ):
        assert status(wrong) == 401
    assert len(open_gateway.stub.heard) == heard


def test_tokens_are_kept_as_hashes_and_end_when_revoked(tmp_path):
    with gateway(tmp_path) as one:
        file = tokens_file(tmp_path)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert not any(token in file.read_text() for token in one.words.values())
        assert len(base64.urlsafe_b64decode(one.words["own"] + "=")) == 32
        one.tokens.revoke("own")
        assert one.client.get("/api/health").status_code == 401
        one.tokens.issue("own")
        assert one.client.get("/api/health").status_code == 401  # the old one stays closed


def test_a_token_file_that_cannot_be_trusted_opens_nothing(tmp_path):
    with gateway(tmp_path) as one:
        tokens_file(tmp_path).chmod(0o644)
        assert one.client.get("/api/health").status_code == 503
        tokens_file(tmp_path).chmod(0o600)
        tokens_file(tmp_path).write_text('{"own": "x"}')
        assert one.client.get("/api/health").status_code == 503
        with pytest.raises(StackError, match=r"is damaged. Remove it .* gateway token NAME"):
            one.tokens.hashes()


def test_names_of_sites_are_checked(tmp_path):
    tokens = Tokens(tokens_file(tmp_path))
    for name in ("", "../x", "a/b", "-a", "a" * 65):
        with pytest.raises(StackError, match="is no name of a site"):
            tokens.issue(name)
    with pytest.raises(StackError, match="'a' has no token; these have: none"):
        tokens.revoke("a")


def test_a_large_body_is_refused(tmp_path):
    with gateway(tmp_path, most_bytes=1024) as one:
        path = f"/api{OWN_PATH}/set_state"
        assert one.client.post(path, content=b"x" * 1025).status_code == 413
        assert one.client.post(path, content=iter([b"x" * 600] * 3)).status_code == 413
        assert one.stub.heard == []


def test_a_body_that_claims_too_much_is_not_waited_for(tmp_path):
    with gateway(tmp_path, most_bytes=1024) as one:
        path, long = f"/api{OWN_PATH}/set_state", {"Content-Length": "1025"}
        for headers, status in ((long, 413), ({**long, "Authorization": "Bearer x"}, 401)):
            answer = one.client.post(path, headers=headers, content=iter([]))
            assert (answer.status_code, answer.headers["Connection"]) == (status, "close")
        answer = one.client.post(path, headers={"Authorization": "Bearer x"}, content=iter([b"x"]))
        assert (answer.status_code, answer.headers["Connection"]) == (
            401,
            "close",
        )  # no end in sight
        answer = one.client.post(path, headers={"Authorization": "Bearer x"}, content=b"x")
        assert answer.status_code == 401 and "Connection" not in answer.headers


def test_who_goes_before_the_body_came_is_counted(tmp_path):
    async def run(door):
        async def gone():
            return {"type": "http.disconnect"}

        with pytest.raises(Refused, match="gone before the body came"):
            await door.body(Request({"type": "http", "headers": []}, gone))

    asyncio.run(run(Door(Tokens(tmp_path / "none"), Limits())))


def test_a_refusal_costs_as_much_as_ten_requests_and_no_more_than_a_burst(tmp_path):
    with gateway(tmp_path, per_second=0.001, burst=25) as one:
        sisters = [one.client.get(f"/api/flow_runs/{SISTER}").status_code for _ in range(4)]
        assert sisters == [403, 403, 403, 429]
        sister = {"Authorization": f"Bearer {one.words['sister']}"}
        assert one.client.get("/api/health", headers=sister).status_code == 200
    bucket = Bucket(per_second=1.0, burst=3, clock=lambda: 0.0)
    for _ in range(9):
        bucket.charge(2.0)
    assert bucket.take() == 4.0  # seconds until the debt of 3 is paid and there is one


def test_a_kind_of_refusal_is_told_once_a_minute_and_all_at_the_end(tmp_path, caplog, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("deployments.gateway.door.time.monotonic", lambda: now[0])
    door = Door(Tokens(tmp_path / "none"), Limits())
    for second in range(0, 130):
        now[0] = 100.0 + second
        for _ in range(10):
            door.count("nobody", Refused(401, "no token of a site"))
    assert [one.getMessage().split("(")[1] for one in caplog.records] == [
        "1 times)",
        "601 times)",
        "1201 times)",
    ]
    door.count("own", Refused(403, "not on the list"))
    caplog.clear()
    door.tell_all()
    assert [one.getMessage() for one in caplog.records] == [
        "nobody: refused in all: no token of a site (1300 times)",
        "own: refused in all: not on the list (1 times)",
    ]


def test_a_site_that_asks_too_much_waits_and_its_sister_does_not(tmp_path):
    with gateway(tmp_path, per_second=0.001, burst=2) as one:
        found = [one.client.get("/api/health").status_code for _ in range(3)]
        assert found == [200, 200, 429]
        assert one.client.get("/api/health").headers["Retry-After"] == "1"
        sister = {"Authorization": f"Bearer {one.words['sister']}"}
        assert one.client.get("/api/health", headers=sister).status_code == 200


def test_a_bucket_fills_up_to_its_burst():
    now = [0.0]
    bucket = Bucket(per_second=2.0, burst=3, clock=lambda: now[0])
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.5]
    now[0] = 0.5
    assert [bucket.take(), bucket.take()] == [0, 0.5]
    now[0] = 100.0
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.5]


def test_limits_are_read_strictly(tmp_path):
    assert read_limits(tmp_path) == Limits()
    (tmp_path / "gateway.yaml").write_text("per_second: 5\n")
    assert read_limits(tmp_path).per_second == 5
    for wrong in ("per_second: -1", "per_hour: 5", "burst: 1\nburst: 2", "- 1"):
        (tmp_path / "gateway.yaml").write_text(wrong)
        with pytest.raises(StackError, match=r"gateway.yaml: "):
            read_limits(tmp_path)


# -- events -------------------------------------------------------------------------------------


def resource(kind, site, **more):
    return {"prefect.resource.id": f"prefect.{kind}.{id_of(kind, site)}", **more}


RUN = resource("flow-run", "own", **{"prefect.resource.role": "flow-run"})
RELATED = [
    RUN,
    {"prefect.resource.id": f"prefect.flow.{FLOW}"},
    resource("deployment", "own"),
    {"prefect.resource.id": f"prefect.work-queue.{id_of('queue', 'own')}"},
    {"prefect.resource.id": "prefect.work-pool.x"},
    {"prefect.resource.id": "prefect.tag.x"},
]
TASK = {"prefect.resource.id": f"prefect.task-run.{NEW_TASK}", "prefect.resource.name": "t"}


def task_event(**more):
    payload = {
        "validated_state": {"type": "RUNNING", "name": "Running"},
        "task_run": {"name": "t", "task_key": "k", "dynamic_key": "0", "run_count": 1},
    }
    return {
        **{"id": id_of("event", "any"), "occurred": "2026-01-01T00:00:00Z", "payload": payload},
        **{"event": "prefect.task-run.Running", "resource": TASK, "related": RELATED},
        **more,
    }


def heartbeat(**more):
    return task_event(
        event="prefect.flow-run.heartbeat", resource=RUN, related=RELATED[1:], payload={}, **more
    )


@contextmanager
def stream(one, token=None):
    headers = {"Authorization": basic("own", one.words["own"])} if token is None else token
    url = "/api/events/in"
    with one.client.websocket_connect(url, subprotocols=["prefect"], headers=headers) as socket:
        socket.send_json({"type": "auth", "token": "x"})
        assert socket.receive_json() == {"type": "auth_success"}
        yield socket


def send(one, *events):
    """What reaches the API of these events."""
    with stream(one) as socket:
        for event in events:
            socket.send_text(event if isinstance(event, str) else json.dumps(event))
        socket.send_bytes(b"the end")  # which closes the stream once all before it is done
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()
    return [words[0] for _, path, words in one.stub.heard if path == "/events"]


def test_an_own_event_passes_and_is_written_anew(open_gateway):
    hostile = task_event(
        resource={**TASK, "prefect.resource.x": SECRET},
        payload={
            "validated_state": {**STATE, "id": SISTER, "name": "Done", "state_details": DETAILS},
            "initial_state": {"type": "PENDING"},
            "task_run": {
                **{"name": "t", "task_key": "k", "dynamic_key": "0", "run_count": 1},
                **{"id": id_of("task-run", "sister"), "flow_run_id": SISTER, "cache_key": "c"},
                **{"state": {"type": "FAILED"}, "state_id": SISTER, "tags": ["x"]},
                **{"task_inputs": {"x": [{"input_type": "task_run", "id": SISTER}]}},
            },
        },
    )
    (event,) = send(open_gateway, hostile)
    assert event["resource"]["prefect.resource.id"] == TASK["prefect.resource.id"]
    assert event["resource"]["prefect.orchestration"] == "client"
    ids = [one["prefect.resource.id"] for one in event["related"]]
    own = id_of("deployment", "own")
    assert ids == [f"prefect.flow-run.{OWN}", f"prefect.flow.{FLOW}", f"prefect.deployment.{own}"]
    assert event["payload"]["intended"] == {"from": "PENDING", "to": "COMPLETED"}
    assert event["payload"]["task_run"] == {
        **{"name": "t", "task_key": "k", "dynamic_key": "0", "run_count": 1},
    }
    text = json.dumps(event)
    for never in (SISTER, SECRET, "storage_key", UNKNOWN, id_of("task-run", "sister")):
        assert never not in text
    assert event["id"] != id_of("event", "any")


SISTERS = {"prefect.resource.id": f"prefect.flow-run.{SISTER}"}
FOREIGN = [
    heartbeat() | {"resource": SISTERS},
    heartbeat() | {"related": [*RELATED[1:], SISTERS]},
    heartbeat() | {"related": [resource("deployment", "sister")]},
    heartbeat() | {"related": [resource("task-run", "own")]},
    heartbeat() | {"event": "prefect.flow-run.Failed"},
    heartbeat() | {"event": "prefect.deployment.ready", "resource": resource("deployment", "own")},
    task_event(related=[SISTERS]),
    task_event(related=[RUN, SISTERS]),
    task_event(related=[]),
    task_event(related=[{"prefect.resource.id": f"prefect.flow-run.{UNKNOWN}"}]),
    task_event(related=[*RELATED, {"prefect.resource.id": "prefect.work-queue.x"}]),
    task_event(related=[*RELATED, {"prefect.resource.id": "prefect.automation.x"}]),
    task_event(related=[RUN] * 65),
    task_event(resource=resource("task-run", "sister")),
    task_event(resource=RUN),
    task_event(resource={}),
    task_event(event="prefect.task-run.Running.x"),
    task_event(event="fedloom.node_error"),
    task_event(payload={}),
    task_event(id="x"),
    task_event(occurred="never"),
    "{",
    "[]",
    '"auth"',
    "[" * 50_000,
]


def test_foreign_events_are_dropped_and_counted(open_gateway):
    assert send(open_gateway, *FOREIGN) == []
    assert open_gateway.door.refused["own", "an event that is not of its own runs"] == len(FOREIGN)


def test_a_task_run_belongs_to_who_said_it_first(tmp_path):
    with gateway(tmp_path) as one:
        assert len(send(one, task_event(), task_event())) == 2
        one.stub.heard.clear()
        sisters = task_event(related=[resource("flow-run", "sister")])
        headers = {"Authorization": basic("sister", one.words["sister"])}
        with stream(one, headers) as socket:
            socket.send_json(sisters)
            socket.send_json({})
            socket.send_text("x" * 2**20 + "y")
            with pytest.raises(WebSocketDisconnect):
                socket.receive_json()
        assert one.stub.passed() == []
        assert one.door.refused["sister", "an event that is not of its own runs"] == 2
        assert one.door.refused["sister", "an event of too many bytes"] == 1


@pytest.mark.parametrize("what", ["token", "protocol", "bytes", "no greeting", "revoked", "path"])
def test_a_stream_of_another_kind_is_closed(tmp_path, what):
    with gateway(tmp_path) as one:
        headers = {"Authorization": "Bearer x"} if what == "token" else {}
        url = "/api/events/out" if what == "path" else "/api/events/in"
        protocols = [] if what == "protocol" else ["prefect"]
        with (
            pytest.raises(WebSocketDisconnect),
            one.client.websocket_connect(url, subprotocols=protocols, headers=headers) as socket,
        ):
            if what == "bytes":
                socket.send_bytes(b"x")
            socket.send_json({"type": "filter" if what == "no greeting" else "auth"})
            socket.receive_json()
            one.tokens.revoke("own")
            socket.send_json(heartbeat())
            socket.receive_json()
        assert one.stub.passed() == []


def test_streams_are_few_and_an_api_that_is_away_ends_them(tmp_path):
    with gateway(tmp_path, most_streams=1) as one:
        with stream(one) as socket:
            with pytest.raises(WebSocketDisconnect), stream(one):
                pass
            one.stub.broken = 500
            socket.send_json(heartbeat())
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_json()
            assert closed.value.code == 1013  # come again
        one.stub.broken = None
        one.stub.heard.clear()
        assert len(send(one, heartbeat())) == 1


# -- with the stack -----------------------------------------------------------------------------


def test_the_stack_has_a_gateway_once_a_site_has_a_token(tmp_path):
    stack = Stack(tmp_path, 4200, 5000)
    assert with_gateway(stack, None, print).gateway_port == 0
    assert "gateway" not in [one.name for one in services(stack)]
    Tokens(tokens_file(tmp_path)).issue("own")
    stack = with_gateway(stack, None, print)
    assert stack.gateway_port and with_gateway(stack, stack, print) == stack
    write_stack(stack)
    assert read_stack(tmp_path).gateway_port == stack.gateway_port
    *_, last = services(stack)
    assert last.name == "gateway" and f"--host 127.0.0.1 --port {stack.gateway_port}" in " ".join(
        last.command
    )
    tokens_file(tmp_path).chmod(0o644)
    with pytest.raises(StackError, match="chmod 600"):
        with_gateway(stack, None, print)


def test_the_command_shows_a_token_once(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLOOM_HOME", str(tmp_path))

    def run(*words):
        return CliRunner().invoke(gateway_commands, words)

    token = run("token", "own").stdout.strip()
    assert Tokens(tokens_file(tmp_path)).owner(token) == "own"
    assert "has ended" in run("token", "own", "--revoke").stdout
    assert Tokens(tokens_file(tmp_path)).owner(token) is None
    again = run("token", "own", "--revoke")
    assert again.exit_code == 1 and "has no token" in again.stderr
    assert run("token", "../x").exit_code == 1
