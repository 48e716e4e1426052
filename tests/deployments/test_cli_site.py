"""`fedloom site`: what an administrator sees and decides; a new site lets out nothing."""

import json
import os

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from deployments.cli.main import app
from fedcore.config import make_config
from fedcore.numerics import code_digest
from fedcore.sites.audit_log import utc_now
from fedcore.sites.codes import Code
from fedcore.sites.folder import SiteFolder
from fedcore.sites.gate import open_gate
from fedcore.sites.identity import new_identity
from fedcore.sites.outgoing import Asked, Excuse, Facts
from fedcore.sites.policy import Policy
from fedcore.sites.status import Approved, SiteStatus, read_status

COMMANDS = [
    *(["init"], ["identity"], ["trust"], ["status"], ["pause"], ["resume"], ["withdraw"]),
    *(["approve"], ["policy"], ["preview"], ["log", "show"], ["log", "verify"]),
]
OPEN = """
runs: ["*"]
purposes: [heart]
jobs: [audit, prepare, train, evaluate]
metrics: {kind: rounded, decimals: 1}
"""
DATA = {"kind": "arrays", "path": "own.npz", "task": "binary", "inputs": "x", "targets": "y"}
RUN = {
    "name": "heart",
    "data": {"kind": "heart_disease"},
    "partition": {"kind": "by_owner"},
    "model": {"kind": "logistic"},
    "training": {"kind": "loop", "steps": 2, "class_weights": "federation"},
    "rounds": {"count": 3, "min_clients": 4},
    "evaluation": {"splits": ["test"]},
}
CANARY = 73219.5


def call(*words, said=None):
    return CliRunner().invoke(app, ["site", *map(str, words)], input=said)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A new site with 60 rows of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDLOOM_SITE", raising=False)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype(np.float32)
    x[7, 1] = CANARY
    splits = np.array(["train"] * 40 + ["test"] * 20)
    np.savez(tmp_path / "own.npz", x=x, y=np.arange(60) % 2, split=splits)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(DATA | {"split": "split"}))
    words = ["--mailbox", "box", "--data", "own.yaml", "--data-folder", "."]
    done = call("init", "north", *words)
    assert done.exit_code == 0, done.output
    monkeypatch.setenv("FEDLOOM_SITE", "north")
    return SiteFolder(tmp_path / "north")


def asks(site, run="run-1", changes=None, **values):
    """What a session lays out when the coordinator asks."""
    config = make_config({**RUN, **(changes or {})})
    value = {
        "purpose": config.name,
        "plan": config.digest,
        "code": code_digest(),
        "config": config.model_dump(mode="json", exclude={"speed"}),
        **values,
    }
    site.run(run).mkdir(parents=True)
    (site.run(run) / "request.json").write_text(json.dumps(value))
    return config


def allow(site, text=OPEN):
    (site.path / "policy.yaml").write_text(text)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(words):
    help = call(*words, "--help").output
    assert f"fedloom site {' '.join(words)}" in help.partition("Example")[2]
    assert "--folder" in help


# -- a new site ------------------------------------------------------------------------------------


def test_a_new_site_is_private_and_denies_everything(site, tmp_path):
    assert site.policy == Policy() and read_status(site.status_file) == SiteStatus()
    settings = site.settings
    assert settings.folder == str(tmp_path) and settings.mailbox == str(tmp_path / "box")
    assert settings.data.path == "own.npz" and site.path.stat().st_mode & 0o777 == 0o700
    public = json.loads((site.path / "public.json").read_text())
    assert public == site.identity.public.to_json()
    done = call("identity")
    assert json.loads(done.stdout) == public
    assert site.identity.public.fingerprint in done.stderr


@pytest.mark.parametrize("name", ["site.yaml", "policy.yaml"])
def test_every_key_of_a_new_site_is_commented(site, name):
    lines = (site.path / name).read_text().splitlines()
    keys = [at for at, line in enumerate(lines) if line[:1].isalpha()]
    assert len(keys) >= 5
    assert [lines[at] for at in keys if not lines[at - 1].startswith("#")] == []


def test_nothing_that_is_there_is_overwritten(site, tmp_path):
    before = {path: path.read_bytes() for path in site.path.iterdir()}
    done = call("init", "north", "--mailbox", "m", "--data", "digits")
    assert done.exit_code == 1 and "nothing is overwritten" in done.stderr
    assert {path: path.read_bytes() for path in site.path.iterdir()} == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "policy.yaml").write_text("mine")
    words = ["init", "o", "--folder", "other", "--mailbox", "m", "--data", "digits"]
    assert call(*words).exit_code == 1
    assert (tmp_path / "other" / "policy.yaml").read_text() == "mine"


def test_a_kind_of_data_is_written_with_what_is_to_be_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["init", "c", "--mailbox", "s3://bucket/c", "--data"]
    done = call(*words, "heart_disease", "-o", "data.hospitals=[cleveland]")
    assert done.exit_code == 0, done.output
    assert SiteFolder(tmp_path / "c").settings.data.hospitals == ("cleveland",)
    assert SiteFolder(tmp_path / "c").settings.mailbox == "s3://bucket/c"
    done = call(*words, "table", "--folder", "t")
    assert done.exit_code == 0 and "CHANGE-ME in site.yaml" in done.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["../up", "--data", "digits"], "name: String should match pattern"),
        (["n", "--data", "scans"], "kind 'scans' does not exist; one of digits,"),
        (["n", "--data", "absent.yaml"], "absent.yaml cannot be read"),
        (["n", "--data", "digits", "-o", "rounds.count=3"], "only keys of data have a place"),
        (["n", "--data", "digits", "-o", "data.col=3"], "unknown key"),
    ],
)
def test_a_site_that_cannot_be_is_not_made(tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    done = call("init", *words, "--mailbox", "box")
    assert done.exit_code == 1 and told in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_another_folder_is_no_site(tmp_path):
    for words in (["status"], ["pause"], ["log", "verify"], ["policy"]):
        done = call(*words, "--folder", tmp_path)
        assert done.exit_code == 1 and "it is no site's folder" in done.stderr
    assert list(tmp_path.iterdir()) == []


# -- whom it trusts --------------------------------------------------------------------------------


def test_a_coordinator_is_trusted_once_its_fingerprint_was_compared(site, tmp_path):
    file, public = tmp_path / "coordinator.json", new_identity("coordinator").public
    file.write_text(json.dumps(public.to_json()))
    assert call("trust", file, said="n\n").exit_code == 1
    assert call("trust", file, "--fingerprint", "00" * 16).exit_code == 1
    assert not (site.path / "coordinator.json").exists()
    assert call("trust", file, "--fingerprint", public.fingerprint).exit_code == 0
    assert site.coordinator == public
    (entry,) = site.log.entries()
    assert (entry.action, entry.details["fingerprint"]) == ("trusted", public.fingerprint)
    assert "trusted already" in call("trust", file).output


@pytest.mark.parametrize("damaged", [False, True])
def test_a_trusted_coordinator_is_not_replaced_silently(site, tmp_path, damaged):
    file, known = tmp_path / "sent.json", site.path / "coordinator.json"
    known.write_text("damaged" if damaged else json.dumps(new_identity("c").public.to_json()))
    other = new_identity("coordinator").public
    file.write_text(json.dumps(other.to_json()))
    before = known.read_text()
    done = call("trust", file, "--fingerprint", other.fingerprint)
    assert done.exit_code == 1 and known.read_text() == before
    assert ("is damaged" if damaged else "give --replace") in done.stderr
    assert call("trust", file, "--replace", said="y\n").exit_code == 0
    assert site.coordinator == other


# -- what it decides -------------------------------------------------------------------------------


def test_pause_resume_and_withdraw_are_decided_and_logged(site):
    done = call("resume")
    assert done.exit_code == 0 and "Nothing leaves: no run is allowed" in done.output
    assert call("withdraw", "run-0").exit_code == 0
    assert read_status(site.status_file) == SiteStatus("running", ("run-0",))
    assert call("pause").exit_code == 0
    assert read_status(site.status_file).state == "paused"
    assert [one.action for one in site.log.entries()] == ["resumed", "withdrawn", "paused"]
    assert call("withdraw", "../x").exit_code == 1


def test_a_site_is_paused_whatever_else_is_broken(site):
    call("resume")
    (site.path / "site.yaml").write_text("nonsense")
    allow(site, "nonsense")
    site.log.path.write_bytes(site.log.path.read_bytes().replace(b"resumed", b"resumer"))
    done = call("pause")
    assert done.exit_code == 1 and "What holds now: paused" in done.stderr
    assert read_status(site.status_file).state == "paused"


def test_a_run_asks_is_shown_and_approved(site):
    allow(site)
    config = asks(site)
    shown = call("status").output
    assert "run-1  asks for approval" in shown and f"plan     {config.digest}" in shown
    assert "A logistic model is trained for 3 rounds by fedavg" in shown
    assert "the program that is installed here" in shown
    assert f"fedloom site approve run-1 --folder {site.path}" in shown.splitlines()[-2]
    done = call("approve", "run-1", said="n\n")
    assert done.exit_code == 1 and read_status(site.status_file).approved == ()
    assert "kind: heart_disease" in done.output and "engine:" not in done.output
    assert call("approve", "run-1").exit_code == 1  # nobody answers
    assert call("approve", "run-1", "--yes").exit_code == 0
    approved = Approved("run-1", config.digest, code_digest())
    assert read_status(site.status_file).approved == (approved,)
    assert "run-1  approved" in call("status").output
    call("withdraw", "run-1")
    assert "run-1  withdrawn" in call("status").output
    done = call("approve", "run-1", "--yes")
    assert done.exit_code == 1 and "which is final" in done.stderr


def test_an_approval_that_opens_nothing_says_so(site):
    asks(site, code="c" * 64)
    done = call("approve", "run-1", "--yes")
    assert done.exit_code == 0
    assert "another program than is installed here" in done.output
    assert "nothing leaves: The run is not among the policy's runs." in done.output
    allow(site, OPEN + "approval: {kind: by_rule}")
    done = call("approve", "run-1", "--yes")
    assert done.exit_code == 1 and "a person's approval changes nothing" in done.stderr
    assert "c" * 64 in done.stderr


@pytest.mark.parametrize("values", [{"plan": "a" * 64}, {"config": {"x": 1}}, {"code": 3}])
def test_an_altered_request_is_not_approved(site, values):
    allow(site)
    asks(site, **values)
    done = call("approve", "run-1", "--yes")
    assert done.exit_code == 1 and read_status(site.status_file).approved == ()
    assert "request.json of run='run-1' is damaged" in done.stderr
    assert "is damaged" in call("status").output


@pytest.mark.parametrize("run", ["../run-1", "absent"])
def test_only_a_run_that_asks_is_approved(site, run):
    asks(site)
    done = call("approve", run, "--yes")
    assert done.exit_code == 1 and done.stderr.startswith("error: run")


def test_what_the_coordinator_wrote_does_not_steer_the_terminal(site):
    allow(site)
    hostile = "\x1b[2J\x1b]0;approved\x07\u202egnp[red]\n"
    asks(site, changes={"registry": {"experiment": hostile}})
    for words in (["status"], ["approve", "run-1", "--yes"]):
        done = call(*words)
        assert done.exit_code == 0
        assert not {"\x1b", "\x07", "\u202e"} & {*done.output}
    assert "[red]" in done.output


# -- what it allows, and what left -----------------------------------------------------------------


def test_the_policy_is_told_and_checked(site):
    assert "Nothing leaves" in call("policy").output
    allow(site)
    assert "purposes heart" in call("policy").output
    assert site.policy.digest in call("policy", "check").output
    allow(site, "runs: all")
    for words in (["policy"], ["policy", "check"], ["status"]):
        done = call(*words)
        assert done.exit_code == 1 and "is not a valid policy" in done.stderr
    assert call("resume").exit_code == 1 and not site.status_file.exists()


def test_what_left_today_is_counted_from_the_log(site):
    allow(site)
    config = asks(site)
    call("resume")
    call("approve", "run-1", "--yes")
    gate = open_gate(site)
    names = ("run-1", "heart", "prepare", 0)
    asked = Asked(*names, "a" * 64, config.digest, code_digest())
    gate.release(asked, Facts())
    gate.release(asked, Facts())  # sent again
    gate.release(Asked(*names, "b" * 64, "c" * 64, code_digest()), Facts())  # withheld
    gate.preview(asked, Facts())
    out = [one for one in site.log.entries() if one.action in ("released", "resent")]
    total = sum(one.details["bytes"] for one in out)
    day = utc_now().date().isoformat()
    said = call("status").output.splitlines()[-1]
    told = f"answers 2, in rounds 1, refusals 0, together {total} B"
    assert said == f"Left today ({day}, UTC): {told}"
    gate.release(asked, Excuse(Code.WORK_FAILED))
    assert "refusals 1," in call("status").output
    shown = call("log", "show", "--run", "run-1", "-n", "2").output.splitlines()
    assert len(shown) == 2 and "excused  run-1  prepare  work_failed  round=0" in shown[1]
    assert call("log", "show", "--run", "other").output == ""


def test_a_changed_entry_is_found_and_what_stands_before_is_shown(site):
    for command in ("resume", "pause", "resume"):
        call(command)
    done = call("log", "verify")
    head = site.log.head()
    assert done.exit_code == 0 and "3 entries" in done.output and head in done.output
    lines = site.log.path.read_bytes().splitlines(keepends=True)
    site.log.path.write_bytes(b"".join(lines[:2]))
    assert call("log", "verify").exit_code == 0
    assert call("log", "verify", "--head", head).exit_code == 1
    site.log.path.write_bytes(lines[0] + lines[1].replace(b"paused", b"pauses") + lines[2])
    done = call("log", "verify")
    assert done.exit_code == 1 and "line 2: changed" in done.stderr
    done = call("log", "show")
    assert done.exit_code == 1 and "resumed" in done.stdout and "line 2" in done.stderr
    assert call("status").exit_code == 1


@pytest.mark.slow
def test_a_preview_tells_names_and_bytes_and_lets_out_nothing(site, tmp_path):
    allow(site, OPEN + 'minimum_group: 2\nstatistics: ["*"]')
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(RUN | {"data": {"kind": "digits"}}))
    before = {path.name for path in site.path.iterdir()}
    done = call("preview", "run.yaml")
    assert done.exit_code == 0, done.output
    assert "statistics: " in done.output and "facts.variance" in done.output
    for told in ("audit: ", "facts.samples", "train: ", "delta.", "float32[1, 3]", "evaluate: "):
        assert told in done.output
    assert "first: metrics to 1 decimals" in done.output
    assert done.output.count("It stays, as things are now (site_paused)") == 4
    assert str(CANARY) not in done.output + done.stderr
    assert {path.name for path in site.path.iterdir()} - before == {"log.jsonl"}
    assert {one.action for one in site.log.entries()} == {"previewed"}
    assert not (tmp_path / "box").exists()


def test_a_preview_names_what_is_too_small_and_data_that_are_not_there(site, tmp_path):
    allow(site, OPEN + "minimum_group: 25")
    done = call("preview")
    assert done.exit_code == 0 and "train: " not in done.output
    assert "(group_too_small)" in done.output
    (tmp_path / "own.npz").unlink()
    done = call("preview")
    assert done.exit_code == 1 and "own.npz" in done.stderr
