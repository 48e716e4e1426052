"""The compose file of the example: what Docker would be given."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deployments.cli.federation import SITES

FOLDER = Path(__file__).parents[2] / "deployments" / "compose"


@pytest.fixture(scope="module")
def compose():
    """What Docker's own reader makes of the file."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("needs docker-compose (no Docker engine): apt-get install docker-compose")
    words = [program, "-f", str(FOLDER / "compose.yaml"), "config"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def test_each_site_has_a_container_and_a_volume_of_its_own(compose):
    services = compose["services"]
    assert set(services) == {"coordinator", *SITES}
    own = {name: {v.split(":")[0] for v in services[name]["volumes"]} for name in services}
    for name in SITES:
        site = services[name]
        assert own[name] == {name, "mailbox", "meeting"}
        assert site["environment"]["NAME"] == name and site["read_only"]
        assert site["network_mode"] == "service:coordinator" and "ports" not in site
        assert site["cap_drop"] == ["ALL"]
    assert not own["coordinator"] & set(SITES)


@pytest.mark.parametrize("script", ["site.sh", "coordinator.sh"])
def test_the_scripts_are_shell(script):
    done = subprocess.run(["sh", "-n", FOLDER / script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
