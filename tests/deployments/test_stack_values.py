import shlex
import socket
import subprocess
import sys

import pytest
from supervisor.options import ServerOptions

from deployments.cli.run import job_variables
from deployments.stack.ports import choose_port, describe_holder, is_free
from deployments.stack.services import service_environment, services
from deployments.stack.stack import (
    Process,
    Stack,
    StackError,
    environment,
    read_stack,
    stack_home,
    write_stack,
)
from deployments.stack.supervision import LONGEST_SOCKET_PATH, socket_path, supervisor_config


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_stack_is_read_back_as_it_was_written(tmp_path):
    stack = Stack(tmp_path, 4200, 5000, {"supervisord": Process(7, 1.5)})
    write_stack(stack)
    assert read_stack(tmp_path) == stack


def test_no_file_is_no_stack_and_a_damaged_one_is_named(tmp_path):
    assert read_stack(tmp_path) is None
    (tmp_path / "stack.json").write_text('{"prefect_port": 4200}')
    with pytest.raises(StackError, match=r"stack\.json is damaged"):
        read_stack(tmp_path)


def test_home_is_the_argument_then_the_environment_then_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDLOOM_HOME", raising=False)
    assert stack_home() == tmp_path / ".fedloom"
    monkeypatch.setenv("FEDLOOM_HOME", "elsewhere")
    assert stack_home() == tmp_path / "elsewhere"
    assert stack_home("/given").as_posix() == "/given"


def test_a_taken_port_is_not_chosen(listener):
    assert not is_free(listener)
    chosen = choose_port(listener)
    assert chosen != listener
    assert is_free(chosen)


def test_a_free_port_is_kept_unless_it_is_spoken_for():
    free = choose_port(0)
    assert choose_port(free) == free
    assert choose_port(free, taken=frozenset({free})) != free


def test_a_port_that_another_process_chose_is_not_chosen_before_it_listens():
    words = "from deployments.stack.ports import choose_port; print(choose_port(0), flush=True)"
    chosen = f"{words}; input()"
    with subprocess.Popen(
        [sys.executable, "-c", chosen], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        port = int(other.stdout.readline())
        assert is_free(port) and choose_port(port) != port
        other.communicate("\n")
    assert choose_port(port) == port


def test_the_holder_of_a_port_is_described(listener):
    assert "process" in describe_holder(listener)


def test_services_see_this_stack_and_no_other(tmp_path):
    stack = Stack(tmp_path, 4321, 5432)
    outer = {
        "PREFECT_API_URL": "https://elsewhere.example/api",
        "MLFLOW_TRACKING_URI": "https://elsewhere.example",
        "FEDLOOM_DATA": str(tmp_path / "data" / ".." / "sets"),
        "HF_HUB_OFFLINE": "1",
    }
    seen = service_environment(stack, outer)
    assert environment(stack).items() <= seen.items()
    assert seen["PREFECT_API_URL"] == "http://127.0.0.1:4321/api"
    assert seen["FEDLOOM_DATA"] == str(tmp_path / "sets")
    assert seen["HF_HUB_OFFLINE"] == "1"
    assert not any("elsewhere" in value for value in seen.values())


def test_a_run_sees_the_data_of_whoever_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDLOOM_DATA", "sets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    env = {"FEDLOOM_DATA": str(tmp_path / "sets"), "HF_HUB_OFFLINE": "1"}
    assert job_variables() == {"working_dir": str(tmp_path), "env": env}
    # What is unset or empty here must not hide what the stack was started with.
    monkeypatch.setenv("FEDLOOM_DATA", "")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert job_variables()["env"] == {}


def test_all_services_listen_on_loopback_only(tmp_path):
    servers = [one.command for one in services(Stack(tmp_path, 1, 2)) if "--host" in one.command]
    assert len(servers) == 2
    assert all(command[command.index("--host") + 1] == "127.0.0.1" for command in servers)


def test_a_home_with_spaces_survives_supervisords_configuration_file(tmp_path):
    home = tmp_path / "a b's (c)"
    (home / "logs").mkdir(parents=True)
    config = home / "supervisord.conf"
    config.write_text(supervisor_config(home, services(Stack(home, 1, 2))))
    options = ServerOptions()
    options.realize(["-c", str(config)])
    commands = {
        group.name: group.process_configs[0].command for group in options.process_group_configs
    }
    assert set(commands) == {"prefect", "mlflow", "worker"}
    assert str(home / "mlflow" / "artifacts") in shlex.split(commands["mlflow"])


@pytest.mark.parametrize("name", ["100%", "a;b", 'a"b'])
def test_a_home_that_supervisord_cannot_read_is_refused(tmp_path, name):
    stack = Stack(tmp_path / name, 1, 2)
    with pytest.raises(StackError, match="Set FEDLOOM_HOME"):
        supervisor_config(stack.home, services(stack))


def test_a_long_home_moves_only_the_socket(tmp_path):
    deep = tmp_path.joinpath(*["folder"] * 20)
    assert socket_path(tmp_path).parent == tmp_path or len(str(tmp_path)) > 70
    assert len(str(socket_path(deep))) <= LONGEST_SOCKET_PATH
    assert socket_path(deep) != socket_path(deep / "other")
