"""``fedloom privacy``: the ledger of this home or of a site, batches, and what privacy costs."""

import json

import pytest
from typer.testing import CliRunner

from deployments.cli.main import app
from fedcore.privacy.disjoint import payer_fingerprint
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.ledger import Charge, Ledger, group_fingerprint


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


def test_each_group_of_persons_is_held_against_its_own_budget(ledger):
    for group in ("strict", "lax"):
        data = group_fingerprint("b" * 64, group)
        ledger.charge(Charge("grouped", data, SampledGaussian(0.1, 1.0, 20), "0" * 64))
    spent = ledger.spent("b" * 64 + "/lax", 1e-5).value
    result = fedloom("--epsilon", 10, "--group", f"strict={spent / 2}")
    rows = {row.split("|")[1].strip(): row for row in result.output.splitlines() if "|" in row}
    assert "exhausted" in rows["bbbbbbbbbbbb/strict"] and "| ok" in rows["bbbbbbbbbbbb/lax"]
    assert "4 releases" in result.output
    result = fedloom("--group", "strict")
    assert result.exit_code == 1 and "must read NAME=EPSILON" in result.output


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


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLOOM_HOME", str(tmp_path / "home"))
    file = tmp_path / "small.yaml"
    file.write_text(
        "data: {kind: breast_cancer}\n"
        "partition: {kind: iid, clients: 2}\n"
        "model: {kind: logistic}\n"
        "training: {kind: loop, batch_size: 64, steps: 2}\n"
        "privacy: {kind: example, epsilon: 8}\n"
        "rounds: {count: 2}\n"
        "speed: {workers: 0}\n"
    )
    return file


def test_the_ledger_is_a_command_too(ledger):
    assert fedloom("ledger").output == fedloom().output
    listed = fedloom("--help").output
    assert all(command in listed for command in ("ledger", "suggest", "trade-off"))


def test_a_batch_is_suggested_with_the_line_to_paste(small):
    result = fedloom("suggest", small, "--epsilon", 3, "--records", 64)
    assert result.exit_code == 0, result.output
    assert "of 64 records" in result.output
    assert result.output.count("| recommended |") == 1
    assert f"fedloom run {small} -o privacy.epsilon=3" in result.output
    wanted = fedloom("suggest", small, "--noise-multiplier", 2, "--records", 64, "--compute", 1)
    assert "Noise multiplier 2 with 64 of 64 records in each of 4 steps" in wanted.output
    again = fedloom("suggest", small, "-o", "privacy.kind=local")
    assert again.exit_code == 1 and "privacy.kind=local has no batch" in again.output


def test_records_are_counted_where_they_are_not_told(small):
    result = fedloom("suggest", small, "-o", "training.batch_size=150", "--compute", 1)
    assert "records in each step" in result.output and result.exit_code == 0, result.output


def test_a_trade_off_here_and_now(small, tmp_path):
    grid = ["-o", "grid.epsilons=[2]", "-o", "grid.seeds=[0]"]
    files = ["--picture", tmp_path / "t.png", "--json", tmp_path / "t.json"]
    result = fedloom("trade-off", small, *grid, "--in-process", *files)
    assert result.exit_code == 0, result.output
    assert "epsilon-2/seed-0" in result.output and "| reference |" in result.output
    assert "not covered by" in result.output
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    names = [one["name"] for one in json.loads((tmp_path / "t.json").read_text())]
    assert names == ["reference/seed-0", "epsilon-2/seed-0"]


def test_a_grid_that_cannot_be_is_refused_first(small):
    result = fedloom("trade-off", small, "-o", "grid.epsilons=[]")
    assert result.exit_code == 1 and "epsilons" in result.output
    result = fedloom("trade-off", small, "--picture", "x.png")
    assert result.exit_code == 1 and "belong to --in-process" in result.output
