"""What a worker does with the runs that the last one left."""

import os
import subprocess
import sys
import uuid

import httpx
import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.stack.recovery import MOST_STARTS, Settled, processes_of_runs, recover

WAITS = "import sys, time; print('ready', flush=True); time.sleep(60)"


@pytest.fixture
def working():
    """Starts a process that works for a run of a stack; all are ended."""
    started = []

    def start(run, home):
        process = subprocess.Popen(
            [sys.executable, "-c", WAITS],
            env={**os.environ, "PREFECT__FLOW_RUN_ID": run, "FEDLOOM_HOME": str(home)},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(10)
        process.stdout.close()


def test_the_processes_of_a_run_are_those_of_its_own_home(working, tmp_path):
    mine, other = working("a-run", tmp_path / "one"), working("a-run", tmp_path / "two")
    for home, process in ((tmp_path / "one", mine), (tmp_path / "two", other)):
        found = processes_of_runs(home)
        assert {run: [one.pid for one in family] for run, family in found.items()} == {
            "a-run": [process.pid]
        }
    mine.kill()
    while psutil.Process(mine.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert processes_of_runs(tmp_path / "one") == {}  # one that ended works no more
    assert processes_of_runs(tmp_path) == {}


class Pool:
    """A work pool that no worker asks, with runs in states that only a worker leaves behind."""

    def __init__(self, api):
        self.api, self.name = api, f"trial-{uuid.uuid4()}"
        self.flow = self.said("/flows/", {"name": "trial"})["id"]
        with get_client(sync_client=True) as client:
            client.create_work_pool(WorkPoolCreate(name=self.name, type="process"))

    def said(self, path, body):
        return self.api.post(path, json=body).raise_for_status().json()

    def run(self, name, *states):
        place = {"flow_id": self.flow, "work_pool_name": self.name, "name": name}
        run = self.said("/flow_runs/", {**place, "state": {"type": "SCHEDULED"}})["id"]
        for state in states:
            change = {"state": {"type": state}, "force": True}
            self.said(f"/flow_runs/{run}/set_state", change)
        return run

    def state(self, run):
        return self.api.get(f"/flow_runs/{run}").raise_for_status().json()["state"]


@pytest.fixture
def pool(stack, monkeypatch):
    monkeypatch.setenv("FEDLOOM_HOME", str(stack.home))
    with (
        temporary_settings({PREFECT_API_URL: stack.prefect_api_url}),
        httpx.Client(base_url=stack.prefect_api_url, trust_env=False, timeout=60) as api,
    ):
        yield Pool(api)


@pytest.mark.stack
def test_what_a_worker_left_is_settled(pool, working, stack):
    gone = pool.run("gone", "RUNNING")
    orphan = pool.run("orphan", "RUNNING")
    left_behind = working(orphan, stack.home)
    cancelled = pool.run("cancelled", "RUNNING", "CANCELLING")
    failing = pool.run("failing", *["RUNNING", "SCHEDULED"] * (MOST_STARTS - 1), "RUNNING")
    waiting, done = pool.run("waiting"), pool.run("done", "RUNNING", "COMPLETED")
    others = Pool(pool.api)
    elsewhere = others.run("elsewhere", "RUNNING")

    settled = recover(pool.name)

    assert sorted(settled, key=lambda one: one.name) == [
        Settled(cancelled, "cancelled", "cancelled"),
        Settled(failing, "failing", "left"),
        Settled(gone, "gone", "starts again"),
        Settled(orphan, "orphan", "starts again"),
    ]
    assert not psutil.pid_exists(left_behind.pid)  # it would train beside the new one
    names = {run: pool.state(run)["name"] for run in (gone, orphan, cancelled, failing)}
    assert names == {
        gone: "AwaitingRetry",
        orphan: "AwaitingRetry",
        cancelled: "Cancelled",
        failing: "Crashed",
    }
    assert "Look at its logs, then Retry" in pool.state(failing)["message"]
    for run, state in ((waiting, "SCHEDULED"), (done, "COMPLETED"), (elsewhere, "RUNNING")):
        assert pool.state(run)["type"] == state
    assert recover(pool.name) == []
