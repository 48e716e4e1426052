"""What an operator decides and is told, on the real servers."""

import time
import uuid
from datetime import UTC, datetime

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.alerts import read_alerts
from deployments.queues import TRAINING, ensure_limits
from deployments.registration import ensure_registered, register
from fedcore.absences import STATUS

pytestmark = pytest.mark.stack


@pytest.fixture
def api(stack):
    with httpx.Client(base_url=stack.prefect_api_url, trust_env=False, timeout=60) as client:
        yield client


def said(answer):
    return answer.raise_for_status().json() if answer.content else None


def eventually(look, seconds=60):
    """What is found, as soon as something is."""
    deadline = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.3)
    return found


def automation(api, name):
    (found,) = [
        one for one in said(api.post("/automations/filter", json={})) if one["name"] == name
    ]
    return found


def test_an_event_becomes_an_alert(stack, api):
    ensure_registered(stack)
    run = str(uuid.uuid4())
    told = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "fedloom.node_error",
        "resource": {
            "prefect.resource.id": "fedloom.node.ward-7",
            "fedloom.run_id": run,
            "fedloom.status": STATUS,
        },
        "payload": {"node_id": "ward-7", "round": 4, "message": "missed 3 rounds in a row"},
    }
    api.post("/events", json=[told]).raise_for_status()
    # Other tests' runs have alerts too, also meanwhile.
    (alert,) = eventually(
        lambda: [one for one in read_alerts(stack.home) if one.subject == "Client missing: ward-7"]
    )
    assert "ward-7, round 4: missed 3 rounds in a row" in alert.body
    shown = {"artifacts": {"key": {"any_": ["alerts"]}}}
    assert eventually(
        lambda: any(
            "ward-7" in one["data"] for one in said(api.post("/artifacts/filter", json=shown))
        )
    )


def test_another_deploy_leaves_what_the_operator_decided(stack, api):
    ensure_registered(stack)
    name = "/deployments/name/train-federated/pneumoniamnist"
    queue = f"/work_pools/fedloom/queues/{TRAINING}"
    crashed = "Fedloom: run crashed"
    (nightly,) = said(api.get(name))["schedules"]
    id = said(api.get(name))["id"]
    said(api.patch(f"/deployments/{id}/schedules/{nightly['id']}", json={"active": True}))
    said(api.patch(f"/automations/{automation(api, crashed)['id']}", json={"enabled": False}))
    said(api.patch(queue, json={"concurrency_limit": 3}))
    try:
        register(stack)
        assert [one["active"] for one in said(api.get(name))["schedules"]] == [True]
        assert automation(api, crashed)["enabled"] is False
        assert said(api.get(queue))["concurrency_limit"] == 3
        assert said(api.get(name))["enforce_parameter_schema"] is True
    finally:
        (nightly,) = said(api.get(name))["schedules"]
        said(api.patch(f"/deployments/{id}/schedules/{nightly['id']}", json={"active": False}))
        said(api.patch(f"/automations/{automation(api, crashed)['id']}", json={"enabled": True}))
        said(api.patch(queue, json={"concurrency_limit": 1}))


def test_a_schedule_that_is_switched_on_makes_runs(stack, api):
    ensure_registered(stack)
    found = said(api.get("/deployments/name/train-federated/pneumoniamnist"))
    place = f"/deployments/{found['id']}/schedules/{found['schedules'][0]['id']}"
    mine = {
        "deployments": {"id": {"any_": [found["id"]]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }
    said(api.patch(place, json={"active": True}))
    try:
        deadline = time.monotonic() + 60
        while not (made := said(api.post("/flow_runs/filter", json=mine))):
            assert time.monotonic() < deadline
            time.sleep(0.3)
    finally:
        said(api.patch(place, json={"active": False}))
    due = {datetime.fromisoformat(run["expected_start_time"]) for run in made}
    assert {(time.hour, time.minute) for time in due} == {(2, 0)} and len(due) == len(made)
    assert {run["parameters"]["data"]["name"] for run in made} == {"pneumoniamnist"}
    assert said(api.post("/flow_runs/filter", json=mine)) == []  # switched off again


def test_the_training_queue_gives_one_run_at_a_time(stack, api):
    """In a pool that no worker asks, as a worker would."""
    pool = f"trial-{uuid.uuid4()}"
    with (
        temporary_settings({PREFECT_API_URL: stack.prefect_api_url}),
        get_client(sync_client=True) as client,
    ):
        client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        ensure_limits(client, pool)
        ensure_limits(client, pool)
    flow = said(api.post("/flows/", json={"name": "trial"}))["id"]
    place = {"flow_id": flow, "work_pool_name": pool, "work_queue_name": TRAINING}
    runs = [
        said(api.post("/flow_runs/", json={**place, "name": name, "state": {"type": "SCHEDULED"}}))
        for name in ("first", "second")
    ]

    def offered():
        found = said(api.post(f"/work_pools/{pool}/get_scheduled_flow_runs", json={}))
        return [one["flow_run"]["name"] for one in found]

    def becomes(run, state):
        change = {"state": {"type": state}, "force": True}
        said(api.post(f"/flow_runs/{run['id']}/set_state", json=change))

    assert offered() == ["first"]
    becomes(runs[0], "RUNNING")
    assert offered() == []
    becomes(runs[0], "CRASHED")
    assert offered() == ["second"]
