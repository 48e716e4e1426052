import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from deployments.registration import ensure_registered
from deployments.stack.lifecycle import bring_down, bring_up, running_stack, stack_status
from deployments.stack.processes import find
from deployments.stack.stack import StackError, environment
from deployments.steps import PROJECT

pytestmark = pytest.mark.stack

BIN = Path(sys.executable).parent
DEMO = PROJECT / "configs" / "train_federated" / "demo.yaml"


def command(stack, *words, cwd, **extra):
    """A command of this installation, from a folder of its own, knowing the stack's home only."""
    outer = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
    return subprocess.run(
        [BIN / words[0], *map(str, words[1:])],
        cwd=cwd,
        env={**outer, "FEDLOOM_HOME": str(stack.home), **extra},
        capture_output=True,
        text=True,
        timeout=300,
    )


def line_of(text, start):
    (found,) = [line for line in text.splitlines() if line.startswith(start)]
    return found.removeprefix(start).strip()


def test_everything_answers_and_a_second_up_changes_nothing(stack):
    again = bring_up(stack.home)  # waits until everything answers
    assert (again.prefect_port, again.mlflow_port) == (stack.prefect_port, stack.mlflow_port)
    assert again.processes["supervisord"] == stack.processes["supervisord"]
    assert {one.state for one in stack_status(stack)} == {"running"}
    with pytest.raises(StackError, match=r"runs already, Prefect on port \d+, not 1"):
        bring_up(stack.home, prefect_port=1)


def test_browsers_are_kept_to_this_server(stack):
    page = httpx.get(stack.prefect_ui_url, trust_env=False)
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    for url in (f"{stack.prefect_api_url}/health", f"{stack.mlflow_url}/api/2.0/mlflow/runs/get"):
        foreign = httpx.get(url, headers={"Host": "elsewhere.example"}, trust_env=False)
        assert foreign.status_code in {400, 403}
    asked = {"Origin": "https://elsewhere.example"}
    answer = httpx.get(f"{stack.prefect_api_url}/health", headers=asked, trust_env=False)
    assert "access-control-allow-origin" not in answer.headers


def test_a_run_through_the_worker_ends_as_in_process(stack, tmp_path):
    changes = ["-o", "rounds.count=1", "-o", "partition.clients=3"]
    done = command(stack, "fedloom", "run", DEMO, *changes, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "round 1 of 1: loss" in done.stdout
    assert f"{stack.prefect_ui_url}/runs/flow-run/" in done.stdout
    assert f"{stack.mlflow_url}/#/models/fedloom-digits/versions/" in done.stdout
    elsewhere = {"FEDLOOM_HOME": str(tmp_path / "alone")}
    alone = command(
        stack, "fedloom", "run", DEMO, *changes, "--in-process", cwd=tmp_path, **elsewhere
    )
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert line_of(done.stdout, "final digest") == line_of(alone.stdout, "final digest")


def test_prefects_own_command_starts_a_deployment_from_any_folder(stack, tmp_path):
    ensure_registered(stack)
    started = command(
        stack,
        *("prefect", "deployment", "run", "train-federated/demo"),
        *("--param", 'overrides={"rounds.count": 1}'),
        cwd=tmp_path,
        **environment(stack),
    )
    assert started.returncode == 0, started.stdout + started.stderr
    (flow_run_id,) = [
        line.rpartition(" ")[2] for line in started.stdout.splitlines() if "UUID:" in line
    ]
    followed = command(stack, "fedloom", "follow", flow_run_id[:8], cwd=tmp_path)
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert "digits fedavg seed 0" in followed.stdout and "test accuracy" in followed.stdout


def test_a_failed_run_ends_with_its_reason_and_saw_the_callers_data_folder(stack, tmp_path):
    changes = ("data.kind=table", "data.path=absent.csv", "data.label=ill", "data.numeric=[age]")
    overrides = [word for change in changes for word in ("-o", change)]
    done = command(
        stack, "fedloom", "run", DEMO, *overrides, cwd=tmp_path, FEDLOOM_DATA="hospital-data"
    )
    assert done.returncode == 1
    assert f"there is nothing at {tmp_path / 'hospital-data' / 'absent.csv'}" in done.stderr
    assert f"{stack.prefect_ui_url}/runs/flow-run/" in done.stderr


def test_a_second_home_works_beside_and_survives_a_killed_supervisor(stack, tmp_path):
    told = []
    with pytest.raises(StackError, match=rf"Port {stack.prefect_port} for Prefect is taken by"):
        bring_up(tmp_path, prefect_port=stack.prefect_port, tell=told.append)
    try:
        second = bring_up(tmp_path, tell=told.append)
        assert not {second.prefect_port, second.mlflow_port} & {
            stack.prefect_port,
            stack.mlflow_port,
        }
        keeper = find(second.processes["supervisord"])
        keeper.kill()
        keeper.wait(10)
        with pytest.raises(StackError, match="`fedloom stack down` ends them"):
            bring_up(tmp_path)
        assert running_stack(tmp_path) is None
    finally:
        assert bring_down(tmp_path)
    assert not any(find(process) for process in second.processes.values())
    assert bring_up(stack.home).prefect_port == stack.prefect_port
