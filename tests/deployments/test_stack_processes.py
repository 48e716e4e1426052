import subprocess
import sys
from dataclasses import replace

import pytest

from deployments.stack.processes import end, find, identify, with_descendants

# A parent whose child leads a session of its own, as a flow run under a worker does.
FAMILY = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def family():
    parent = subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True)
    assert parent.stdout.readline() == "ready\n"
    yield identify(parent.pid)
    end(with_descendants([identify(parent.pid)]) if parent.poll() is None else [], seconds=5)
    parent.wait(5)
    parent.stdout.close()


def test_a_process_is_found_by_number_and_start(family):
    assert find(family).pid == family.pid


def test_a_reused_number_is_another_process(family):
    assert find(replace(family, started=family.started - 5)) is None
    assert with_descendants([replace(family, started=family.started - 5)]) == []


@pytest.mark.slow
def test_descendants_in_other_sessions_are_found_and_ended(family):
    members = with_descendants([family])
    assert len(members) == 2
    end(members, seconds=5)
    assert with_descendants([family]) == []
    assert not any(member.is_running() and member.status() != "zombie" for member in members)


@pytest.mark.slow
def test_ending_what_ended_already_is_fine(family):
    members = with_descendants([family])
    end(members, seconds=5)
    end(members, seconds=5)
