"""A server that outlived its parent is ended before the next start, and nothing else is."""

import socket
import subprocess
import sys

import psutil
import pytest

from deployments.stack.alone import leftovers

LISTEN = (
    "import socket, sys, time; s = socket.create_server(('127.0.0.1', 0));"
    "print(s.getsockname()[1], flush=True); time.sleep(60)"
)


@pytest.fixture
def listener(tmp_path):
    """A process of the stack in ``tmp_path`` that listens, and the port."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTEN], env={"FEDLOOM_HOME": str(tmp_path)}, stdout=subprocess.PIPE
    )
    yield process, int(process.stdout.readline())
    process.kill()
    process.wait()


def test_the_listener_is_found_and_its_parent_is_not(listener, tmp_path, monkeypatch):
    process, port = listener
    monkeypatch.setenv("FEDLOOM_HOME", str(tmp_path))  # not in our own environment block
    assert [one.pid for one in leftovers(str(tmp_path), port)] == [process.pid]


def test_another_home_or_port_is_left_alone(listener, tmp_path):
    process, port = listener
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert leftovers(str(tmp_path), other.getsockname()[1]) == []
    assert leftovers(str(tmp_path / "other"), port) == []
    assert psutil.pid_exists(process.pid)
