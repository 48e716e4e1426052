"""A real flow run through the gateway: what it needs passes; a sister site sees nothing of it."""

import json
import os
import subprocess
import sys
import time

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from deployments.stack.credentials import authorization

OWN, SISTER = "gateway-own", "gateway-sister"
# What a site's worker does, with a session that has nothing to do.
SITE = """
import os
import httpx
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.states import Pending

@task(task_run_name="round-{number}/train", persist_result=False)
def client(number):
    if number == 2:
        raise ValueError("a code")

@flow(name="site-session", flow_run_name="{run}", persist_result=False)
def site_session(run):
    client(1)
    client(2, return_state=True)
    return "never sent"

name, _, token = os.environ["PREFECT_API_AUTH_STRING"].partition(":")
headers = {"Authorization": f"Bearer {token}"}
with httpx.Client(base_url=os.environ["PREFECT_API_URL"], headers=headers) as api:
    api.post("/work_pools/sites/workers/heartbeat", json={"name": name}).raise_for_status()
    words = {"work_queue_names": [name]}
    found = api.post("/work_pools/sites/get_scheduled_flow_runs", json=words).json()
with get_client(sync_client=True) as prefect:
    for one in found:
        prefect.set_flow_run_state(one["flow_run"]["id"], Pending())
        run = prefect.read_flow_run(one["flow_run"]["id"])
        run_flow(site_session, flow_run=run, parameters=run.parameters, return_type="state")
"""


def invite(api, site):
    """A flow run of a site's deployment; its id and the deployment's."""
    flow = api.post("/flows/", json={"name": "site-session"}).json()["id"]
    words = {"name": site, "flow_id": flow, "work_pool_name": "sites", "work_queue_name": site}
    deployment = api.post("/deployments/", json=words).json()["id"]
    state = {"state": {"type": "SCHEDULED"}, "parameters": {"run": f"run-of-{site}"}}
    run = api.post(f"/deployments/{deployment}/create_flow_run", json=state)
    return run.json()["id"], deployment


@pytest.mark.stack
def test_a_flow_run_completes_through_the_gateway_and_a_sister_sees_nothing(
    stack, tmp_path, serving
):
    headers = authorization(stack)
    with (
        httpx.Client(base_url=stack.prefect_api_url, headers=headers, trust_env=False) as api,
        serving(stack, tmp_path, OWN, SISTER) as (url, words, door),
    ):
        api.post("/work_pools/", json={"name": "sites", "type": "fedloom-site"})
        (own, _), (sisters, deployment) = invite(api, OWN), invite(api, SISTER)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        settings = {
            "PREFECT_HOME": str(tmp_path / "prefect"),
            "PREFECT_API_URL": url,
            "PREFECT_API_AUTH_STRING": f"{OWN}:{words[OWN]}",
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }
        done = subprocess.run(
            [sys.executable, "-c", SITE],
            env={**kept, **settings},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr

        run = api.get(f"/flow_runs/{own}").json()
        assert (run["name"], run["state"]["type"]) == (f"run-of-{OWN}", "COMPLETED"), done.stderr
        assert run["state"]["data"] is None
        assert api.get(f"/flow_runs/{sisters}").json()["state"]["type"] == "SCHEDULED"
        tasks = until_recorded(api, own, 2)
        assert {(one["name"], one["state_type"]) for one in tasks} == {
            ("round-1/train", "COMPLETED"),
            ("round-2/train", "FAILED"),
        }
        assert not any(site == OWN for site, _ in door.refused)

        bearer = {"Authorization": f"Bearer {words[SISTER]}"}
        with httpx.Client(base_url=url, headers=bearer, trust_env=False) as sister:
            for path in (f"/flow_runs/{own}", f"/task_runs/{tasks[0]['id']}"):
                assert sister.get(path).status_code == 403
            state = {"state": {"type": "CANCELLED"}, "force": True}
            assert sister.post(f"/flow_runs/{own}/set_state", json=state).status_code == 403
            found = sister.post("/work_pools/sites/get_scheduled_flow_runs", json={}).json()
            assert {one["flow_run"]["deployment_id"] for one in found} == {deployment}
        overwrite(url, words[SISTER], sisters, tasks[0]["id"])
        with pytest.raises(InvalidStatus):
            overwrite(url, "no token", sisters, tasks[0]["id"])
        assert door.refused[SISTER, "an event that is not of its own runs"] == 1
        assert api.get(f"/task_runs/{tasks[0]['id']}").json() == tasks[0]


def until_recorded(api, run, count):
    """The task runs of a flow run: the server makes them of events, some seconds later."""
    words = {"flow_runs": {"id": {"any_": [run]}}}
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        tasks = api.post("/task_runs/filter", json=words).json()
        if len(tasks) == count and all(one["end_time"] for one in tasks):
            break
        time.sleep(0.2)
    return tasks


def overwrite(url, token, run, task_run):
    """A sister says that another site's task run is of her own flow run."""
    event = {
        "id": task_run,
        "occurred": "2030-01-01T00:00:00Z",
        "event": "prefect.task-run.Failed",
        "resource": {"prefect.resource.id": f"prefect.task-run.{task_run}"},
        "related": [
            {
                "prefect.resource.id": f"prefect.flow-run.{run}",
                "prefect.resource.role": "flow-run",
            }
        ],
        "payload": {
            "validated_state": {"type": "FAILED", "name": "Failed"},
            "task_run": {"name": "mine", "task_key": "k", "dynamic_key": "0"},
        },
    }
    headers = {"Authorization": f"Bearer {token}"}
    with connect(
        f"{url.replace('http', 'ws', 1)}/events/in",
        subprotocols=["prefect"],
        additional_headers=headers,
        proxy=None,
    ) as socket:
        socket.send(json.dumps({"type": "auth", "token": None}))
        assert json.loads(socket.recv()) == {"type": "auth_success"}
        socket.send(json.dumps(event))
        socket.send(b"the end")  # which closes the stream once all before it is done
        with pytest.raises(ConnectionClosedError):
            socket.recv()
