"""Whether a site takes part: paused without a file, decisions last, and each is in the log."""

import os

import pytest

from fedcore.sites.audit_entry import LogBroken
from fedcore.sites.audit_log import AuditLog
from fedcore.sites.status import (
    Approved,
    SiteStatus,
    StatusError,
    approve,
    pause,
    read_status,
    resume,
    withdraw,
)

PLAN, CODE = "a" * 64, "c" * 64


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def log(tmp_path):
    return AuditLog(tmp_path / "log.jsonl")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "status.json"


def test_without_a_file_the_site_is_paused(path):
    assert read_status(path) == SiteStatus("paused", (), ())


def test_decisions_last_and_are_logged(path, log):
    resume(path, log)
    approve(path, log, Approved("heart-1", PLAN, CODE))
    approve(path, log, Approved("heart-1", PLAN, CODE))
    withdraw(path, log, "old")
    withdraw(path, log, "old")
    assert read_status(path) == SiteStatus("running", ("old",), (Approved("heart-1", PLAN, CODE),))
    assert pause(path, log) == read_status(path) and read_status(path).state == "paused"
    assert path.stat().st_mode & 0o777 == 0o600
    entries = list(log.entries())
    assert [(entry.action, entry.run) for entry in entries] == [
        ("resumed", ""),
        ("approved", "heart-1"),
        ("approved", "heart-1"),
        ("withdrawn", "old"),
        ("withdrawn", "old"),
        ("paused", ""),
    ]
    assert entries[1].details == {"plan": PLAN, "code": CODE}


def test_a_withdrawal_is_final(path, log):
    withdraw(path, log, "heart-1")
    with pytest.raises(StatusError, match=r"'heart-1': this site has withdrawn .* new run"):
        approve(path, log, Approved("heart-1", PLAN, CODE))
    assert read_status(path).approved == () and log.verify().count == 1


def test_a_broken_log_stops_what_widens_and_not_what_narrows(path, log):
    resume(path, log)
    log.path.write_bytes(log.path.read_bytes().replace(b"resumed", b"resumer"))
    with pytest.raises(LogBroken):
        approve(path, log, Approved("heart-1", PLAN, CODE))
    assert read_status(path) == SiteStatus("running")
    with pytest.raises(LogBroken):
        pause(path, log)
    assert read_status(path).state == "paused"
    with pytest.raises(LogBroken):
        resume(path, log)
    assert read_status(path).state == "paused"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"state":"open","withdrawn":[],"approved":[]}',
        '{"state":"running","withdrawn":[3],"approved":[]}',
        '{"state":"running","withdrawn":null,"approved":[]}',
        '{"state":"running","withdrawn":["../x"],"approved":[]}',
        '{"state":"running","withdrawn":[],"approved":[{"run":"r"}]}',
        '{"state":"running","withdrawn":[],"approved":[],"more":1}',
    ],
)
def test_a_damaged_file_is_refused(path, log, text):
    path.write_text(text)
    with pytest.raises(StatusError, match=r"status\.json .*damaged.*Remove it: the site is paused"):
        read_status(path)
    with pytest.raises(StatusError):
        resume(path, log)


@pytest.mark.parametrize("run", ["", "../up", "a b", "x" * 65, None])
def test_a_run_has_an_id(path, log, run):
    with pytest.raises(StatusError, match="run: the id of a run matches"):
        withdraw(path, log, run)
    with pytest.raises(StatusError, match="run: the id of a run matches"):
        Approved(run, PLAN, CODE)


@pytest.mark.parametrize(("plan", "code", "name"), [("A" * 64, CODE, "plan"), (PLAN, 3, "code")])
def test_an_approval_names_digests(plan, code, name):
    with pytest.raises(StatusError, match=f"{name}: 64 lower-case hex digits"):
        Approved("heart-1", plan, code)
