"""``fedloom federation`` before anything is started, and its workers' supervisor."""

import pytest
from typer.testing import CliRunner

from deployments.cli.federation import SITES, ensure_site
from deployments.cli.main import app
from deployments.site import keep
from deployments.stack.services import Service
from deployments.stack.supervision import service_states
from fedcore.data.download import DataNotFound
from fedcore.data.heart import HOSPITALS
from fedcore.sites.coordinator import Coordinator


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("FEDLOOM_DATA", "FEDLOOM_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FEDLOOM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "home"


def test_without_the_data_and_a_network_nothing_is_started(home, monkeypatch):
    def unreachable(url, target, md5):
        raise DataNotFound(f"{url} could not be fetched.")

    monkeypatch.setattr("fedcore.data.files.download", unreachable)
    done = CliRunner().invoke(app, ["federation", "up"])
    assert done.exit_code == 1, done.output
    assert "error: processed.cleveland.data was not found in" in done.stderr
    assert "FEDLOOM_DATA names the folder that holds all data sets." in done.stderr
    assert not (home / "stack.json").exists()


@pytest.mark.slow
def test_each_hospital_gets_its_own_file_alone_and_keeps_what_it_has(
    home, fedloom_data, monkeypatch
):
    monkeypatch.setenv("FEDLOOM_DATA", str(fedloom_data))
    sites = [ensure_site(home / "federation" / name, name) for name in SITES]
    assert {one.owner: one.file for one in HOSPITALS} == {
        site.settings.name: path.name
        for site in sites
        for path in (site.path / "data").rglob("*")
        if path.is_file()
    }
    before = [(site.identity.public, site.token) for site in sites]
    again = [ensure_site(site.path, site.settings.name) for site in sites]
    assert [(site.identity.public, site.token) for site in again] == before
    assert set(Coordinator(home / "coordinator").registry.sites()) == set(SITES)


@pytest.mark.slow
def test_workers_that_have_ended_can_be_started_again_at_once(tmp_path, monkeypatch):
    sleeps = Service("ward", ("sleep", "600"), starts_by_itself=True, order=1, stop_seconds=5)
    monkeypatch.setattr(keep, "worker_of", lambda site: sleeps)
    for _ in range(2):
        keep.start(tmp_path, [None])
        assert set(service_states(tmp_path)) == {"ward"}
        keep.end(tmp_path)
    assert not service_states(tmp_path)
