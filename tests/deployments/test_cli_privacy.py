"""``fedloom privacy``: the ledger of this home or of a site."""

import json

import pytest
from typer.testing import CliRunner

from deployments.cli.main import app
from fedcore.privacy.disjoint import payer_fingerprint
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.ledger import Charge, Ledger


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLOOM_HOME", str(tmp_path))
    ledger = Ledger(tmp_path / "privacy" / "ledger.jsonl")
    for number in range(3):
        event = SampledGaussian(0.1, 1.0, 20)
        ledger.charge(Charge(f"job-{number}", "a" * 64, event, f"{number:064x}"))
    return ledger


def fedloom(*args):
    return CliRunner().invoke(app, ["privacy", *map(str, args)], env={"COLUMNS": "200"})


def test_what_was_spent_and_what_is_left(ledger, tmp_path):
    result = fedloom(
        "--epsilon", 10, "--json", tmp_path / "l.json", "--picture", tmp_path / "p.png"
    )
    spent = ledger.spent("a" * 64, 1e-5).value
    assert result.exit_code == 0, result.output
    assert "aaaaaaaaaaaa" in result.output and f"{spent:.3f}" in result.output
    exported = json.loads((tmp_path / "l.json").read_text())
    assert len(exported["charges"]) == 3 and exported["head"] in result.output
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_site_is_named_by_its_folder(ledger, tmp_path):
    assert "3 releases" in fedloom(tmp_path / "privacy").output


def test_groups_of_clients_are_told_apart_and_a_release_counts_once(ledger):
    for group, noise in ((1, 5.0), (2, 9.0)):
        data = payer_fingerprint("b" * 64, 7, f"group {group} of 2")
        ledger.charge(Charge("round", data, SampledGaussian(1.0, noise), "0" * 64))
    shown = fedloom().output
    assert "4 releases" in shown
    assert all(f"bbbbbbbbbbbb/seed 7, group {group} of 2" in shown for group in (1, 2))


def test_no_ledger_and_a_changed_one(ledger, tmp_path):
    result = fedloom(tmp_path / "elsewhere")
    assert result.exit_code == 1 and "no private run has released anything" in result.output
    text = ledger.path.read_text().replace('"steps":20', '"steps":2', 1)
    ledger.path.write_text(text)
    result = fedloom()
    assert result.exit_code == 1 and "line 1" in result.output
