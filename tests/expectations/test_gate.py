"""The gate of expectations says what fedcore's checks say, and stays shut when it cannot tell."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from expectations.gate import SUITES as SUITE_FILES
from expectations.gate import run_suite, validate
from fedcore.audit.audit import audit, audit_partition, run_checks
from fedcore.audit.checks.catalogue import SUITES, rules_of, suite_of
from fedcore.audit.settings import AuditSettings
from fedcore.audit.table import sample_table
from fedcore.data.dataset import Dataset, Split
from fedcore.data.text_bytes import pack, unpack
from fedcore.partition.partition import Partition
from fedcore.task import Task, TaskKind

SETTINGS = AuditSettings(min_class_support=8, value_range=(0, 254))
TEXT_SETTINGS = AuditSettings(min_class_support=8, most_words=29)


def messy_texts():
    """Texts with a finding for nearly every check."""
    draw = np.random.Generator(np.random.PCG64(0))

    def split(size):
        names = draw.integers(0, 10**6, (size, 30)).astype(str)
        texts = [" ".join(row) for row in names]
        return texts, np.arange(size) % 3, np.array(["a", "b"])[np.arange(size) % 2]

    train, val, test = split(20), split(9), split(9)
    train[0][4] = f" {val[0][2]} "
    val[0][5] = test[0][5]
    train[0][7] = train[0][10]
    train[0][12] = ""
    test[0][1] = f"{train[0][0]} more"
    train[0][9] = "x" * 300
    train[1][3] = 5
    parts = {"train": train, "val": val, "test": test}
    splits = {name: Split(pack(texts, 260), *rest) for name, (texts, *rest) in parts.items()}
    splits["val"].inputs[7] = 255
    task = Task(TaskKind.MULTICLASS, ("one", "two", "three"))
    declared = {"declared": {"train": 21, "val": 9}}
    return Dataset("messy", task, splits, {"kind": "text", "most_bytes": 260}, declared)


def messy(kind):
    """A data set with a finding for nearly every check."""
    if kind == "text":
        return messy_texts()
    is_image = kind == "image"
    draw = np.random.Generator(np.random.PCG64(0))

    def split(size):
        inputs = draw.integers(0, 255, (size, 6, 6, 1) if is_image else (size, 3))
        inputs = inputs.astype(np.uint8 if is_image else np.float32)
        return inputs, np.arange(size) % 3, np.array(["a", "b"])[np.arange(size) % 2]

    train, val, test = split(20), split(9), split(9)
    train[0][4] = val[0][2]
    val[0][5] = test[0][5]
    train[0][7] = train[0][10]
    train[0][12] = 3
    test[0][1] = train[0][0]
    test[0][1].flat[0] += 1
    train[0][9].flat[0] = 255
    train[1][3] = 5
    splits = {"train": Split(*train), "val": Split(*val), "test": Split(*test)}
    features = (
        {"kind": "image", "shape": [6, 6, 1]}
        if is_image
        else {"kind": "table", "names": list("xyz")}
    )
    task = Task(TaskKind.MULTICLASS, ("one", "two", "three"))
    return Dataset("messy", task, splits, features, {"declared": {"train": 21, "val": 9}})


@pytest.mark.parametrize("kind", ["image", "table", "text"])
@pytest.mark.parametrize("remedy", ["stop", "drop-from-train", "accept"])
def test_gate_and_fedcore_agree(kind, remedy):
    settings = TEXT_SETTINGS if kind == "text" else SETTINGS
    settings = settings.model_copy(update={"remedy": remedy})
    by_gate = audit(messy(kind), settings, validate)
    assert by_gate == audit(messy(kind), settings)
    checks = {finding.check for finding in by_gate.findings}
    assert checks >= {
        "values",
        "labels",
        "class-support",
        "split-sizes",
        "exact-duplicates",
        "repeated-samples",
        "conflicting-labels",
        "shared-by-owners",
    }
    assert (
        checks
        >= {
            "image": {"blank-images", "near-duplicates"},
            "table": set(),
            "text": {"empty-texts", "text-lengths", "near-duplicates"},
        }[kind]
    )


def test_gate_and_fedcore_agree_on_clean_data_without_declared_sizes():
    inputs = np.random.Generator(np.random.PCG64(1)).normal(size=(40, 3)).astype(np.float32)
    splits = {"train": Split(inputs, np.arange(40) % 2)}
    dataset = Dataset("rows", Task(TaskKind.BINARY, ("no", "yes")), splits, {"kind": "table"})
    report = audit(dataset, AuditSettings(), validate)
    assert report.findings == ()
    assert report == audit(dataset, AuditSettings())


def test_gate_and_fedcore_agree_on_partitions():
    parts = {"a": np.array([1, 2, 3, 7]), "b": np.array([3, 4, 10, 99])}
    partition = Partition({"train": parts}, {"kind": "plugin"}, 0)
    dropped = {"train": np.array([4])}
    report = audit_partition(messy("image"), partition, SETTINGS, dropped, validate)
    assert report == audit_partition(messy("image"), partition, SETTINGS, dropped)
    assert {finding.check for finding in report.findings} == {
        "one-client",
        "every-sample",
        "shared-by-clients",
    }


def test_gate_and_fedcore_agree_on_texts_at_clients():
    parts = {"a": np.arange(7), "b": np.arange(7, 20)}
    dataset = messy("text")
    inputs = dataset.splits["train"].inputs
    inputs[8] = pack([f"{unpack(inputs[5:6])[0]} more"], 260)
    partition = Partition({"train": parts}, {"kind": "plugin"}, 0)
    report = audit_partition(dataset, partition, TEXT_SETTINGS, run_suite=validate)
    assert report == audit_partition(dataset, partition, TEXT_SETTINGS)
    assert "alike-at-clients" in {finding.check for finding in report.findings}


@pytest.mark.parametrize("name", sorted(SUITES))
def test_suite_files_hold_an_expectation_for_every_check_with_its_rules(name):
    suite = json.loads((SUITE_FILES / f"{name}.json").read_text())
    assert suite["name"] == name
    asked = [
        tuple(value["$PARAMETER"] for value in one["kwargs"].values())
        for one in suite["expectations"]
    ]
    assert asked == [check.rules for check in SUITES[name]]
    assert all(
        key == value["$PARAMETER"]
        for one in suite["expectations"]
        for key, value in one["kwargs"].items()
    )


def test_there_is_a_file_for_every_suite_and_no_other():
    assert {path.stem for path in SUITE_FILES.glob("*.json")} == set(SUITES)


def test_great_expectations_itself_says_which_expectation_failed():
    dataset = messy("image")
    result = run_suite(sample_table(dataset), suite_of(dataset), rules_of(dataset, SETTINGS))
    failed = {one.expectation_config.type for one in result.results if not one.success}
    assert "expect_no_exact_duplicates_across_splits" in failed
    assert "expect_inputs_to_have_schema" not in failed
    assert not result.success


def test_a_gate_that_cannot_tell_stays_shut():
    dataset = messy("image")
    table = sample_table(dataset).drop(columns="digest")
    with pytest.raises(RuntimeError, match=r"expect_no_exact.*could not be evaluated.*digest"):
        validate(table, "image", rules_of(dataset, SETTINGS))


def test_unknown_suite_and_missing_rule():
    with pytest.raises(
        ValueError, match=r"suite='sound' has no file .* image, partition, table, text"
    ):
        validate(pd.DataFrame(), "sound", {})
    with pytest.raises(KeyError, match="noun"):
        validate(sample_table(messy("image")), "partition", {})


def test_the_gate_runs_without_a_network(monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("the gate opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    dataset = messy("table")
    table = sample_table(dataset)
    rules = rules_of(dataset, SETTINGS)
    assert validate(table, "table", rules) == run_checks(table, "table", rules)


def test_class_names_and_suite_names_match():
    import expectations.clients
    import expectations.content
    import expectations.leakage

    classes = {
        re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        for module in (expectations.clients, expectations.content, expectations.leakage)
        for name in vars(module)
        if name.startswith("Expect")
    }
    used = {
        one["type"]
        for path in SUITE_FILES.glob("*.json")
        for one in json.loads(path.read_text())["expectations"]
    }
    assert used == classes
