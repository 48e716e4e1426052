"""Each check finds what was planted, says it in one sentence, and is silent on clean data."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from fedcore.audit.audit import (
    DataAuditFailed,
    audit,
    audit_partition,
    find_problems,
    require_passed,
    run_checks,
)
from fedcore.audit.report import AuditReport
from fedcore.audit.settings import AuditSettings, NearDuplicates
from fedcore.audit.table import sample_table
from fedcore.data.dataset import Dataset, Split
from fedcore.partition.make import make_partition
from fedcore.partition.partition import Partition
from fedcore.partition.settings import ByOwner, Iid
from fedcore.task import Task, TaskKind


def clean_images(sizes=(60, 20, 30), labels=3):
    """Random images that are all different and look different."""
    draw = np.random.Generator(np.random.PCG64(0))
    splits = {
        name: Split(
            draw.integers(0, 256, (size, 12, 12, 1), dtype=np.uint8),
            np.arange(size, dtype=np.int64) % labels,
        )
        for name, size in zip(("train", "val", "test"), sizes, strict=True)
    }
    task = Task(TaskKind.MULTICLASS, tuple(f"label {i}" for i in range(labels)))
    declared = {"declared": dict(zip(splits, sizes, strict=True))}
    return Dataset("toy", task, splits, {"kind": "image", "shape": [12, 12, 1]}, declared)


def clean_table(owners=None):
    draw = np.random.Generator(np.random.PCG64(0))

    def split(size):
        who = None if owners is None else np.array(owners)[np.arange(size) % len(owners)]
        targets = np.arange(size, dtype=np.int64) // 2 % 2
        return Split(draw.normal(size=(size, 2)).astype(np.float32), targets, who)

    features = {"kind": "table", "names": ["age", "pressure"]}
    splits = {"train": split(40), "test": split(20)}
    return Dataset("rows", Task(TaskKind.BINARY, ("no", "yes")), splits, features)


def changed(dataset, split, **arrays):
    """The data set with other arrays in one split."""
    part = replace(dataset.splits[split], **arrays)
    return replace(dataset, splits={**dataset.splits, split: part})


def copied(dataset, source, target, *, label=None):
    """The data set with one input written over another; places are (split, index)."""
    inputs = dataset.splits[target[0]].inputs.copy()
    targets = dataset.splits[target[0]].targets.copy()
    inputs[target[1]] = dataset.splits[source[0]].inputs[source[1]]
    targets[target[1]] = dataset.splits[source[0]].targets[source[1]] if label is None else label
    return changed(dataset, target[0], inputs=inputs, targets=targets)


def found(dataset, settings=None):
    settings = settings or AuditSettings()
    return find_problems(dataset, sample_table(dataset, settings.value_ranges), settings)


def only(findings):
    assert len(findings) == 1, findings
    return findings[0]


@pytest.mark.parametrize("dataset", [clean_images(), clean_table(), clean_table(["a", "b"])])
def test_clean_data_has_no_findings(dataset):
    report = audit(dataset, AuditSettings())
    assert report.findings == ()
    assert report.passed
    assert "Passed: no errors, 0 warnings." in report.to_markdown()


def test_exact_duplicate_across_splits():
    dataset = copied(clean_images(), ("val", 3), ("train", 17))
    dataset = copied(dataset, ("val", 3), ("train", 20))
    finding = only([one for one in found(dataset) if one.check == "exact-duplicates"])
    assert (finding.severity, finding.splits, finding.count) == ("error", ("train", "val"), 1)
    assert finding.message == "1 image is in both train and val (2 in train, 1 in val)."
    assert finding.examples == ("train[17] = val[3]",)


def test_minus_zero_is_zero():
    dataset = clean_table()
    train, test = (dataset.splits[name].inputs.copy() for name in ("train", "test"))
    train[0], test[0] = [0.0, 1.0], [-0.0, 1.0]
    dataset = changed(changed(dataset, "train", inputs=train), "test", inputs=test)
    assert (
        only(found(dataset)).message == "1 row is in both train and test (1 in train, 1 in test)."
    )


def test_repeated_sample_within_a_split_is_a_warning():
    finding = only(found(copied(clean_images(), ("train", 1), ("train", 5))))
    assert (finding.check, finding.severity) == ("repeated-samples", "warning")
    assert finding.message == "1 image of train repeats an earlier one."
    assert finding.examples == ("train[5]",)


def test_conflicting_labels():
    dataset = copied(clean_images(), ("train", 0), ("train", 4), label=2)
    finding = only([one for one in found(dataset) if one.check == "conflicting-labels"])
    assert finding.message == "1 image occurs more than once with different targets."
    assert finding.examples == ("train[0]: 0 / train[4]: 2",)


def test_near_duplicates_need_not_be_equal():
    dataset = copied(clean_images(), ("train", 9), ("test", 2))
    inputs = dataset.splits["test"].inputs.copy()
    inputs[2, 0, 0, 0] ^= 1
    dataset = changed(dataset, "test", inputs=inputs)
    finding = only(found(dataset))
    assert (finding.check, finding.severity) == ("near-duplicates", "warning")
    assert finding.examples[0].startswith("train[9] ~ test[2] (")
    off = AuditSettings(near_duplicates=NearDuplicates(enabled=False))
    assert found(dataset, off) == ()


def test_images_without_a_perceptual_hash_are_not_compared():
    dataset = clean_images()
    splits = {
        name: replace(part, inputs=part.inputs.repeat(2, axis=3))
        for name, part in dataset.splits.items()
    }
    shape = {"kind": "image", "shape": [12, 12, 2]}
    assert found(replace(dataset, splits=splits, features=shape)) == ()


def test_schema():
    dataset = changed(clean_images(), "val", inputs=np.ones((20, 12, 11, 1), dtype=np.uint8))
    finding = next(one for one in found(dataset) if one.check == "schema")
    assert (
        finding.message == "20 images of val should be uint8 12x12x1; the first is uint8 12x11x1."
    )
    dataset = changed(clean_table(), "train", inputs=np.zeros((40, 2), dtype=np.float64))
    assert next(iter(found(dataset))).message.endswith("the first is float64 2.")


def test_values():
    inputs = clean_table().splits["train"].inputs.copy()
    inputs[3, 1], inputs[5, 0] = np.nan, np.inf
    finding = only(found(changed(clean_table(), "train", inputs=inputs)))
    assert finding.message == "2 rows of train have missing or infinite values."
    assert finding.examples == ("train[3]", "train[5]")


def test_value_ranges():
    inputs = np.clip(clean_table().splits["train"].inputs, -1, 1)
    inputs[:, 1] += np.arange(40) / 1000
    inputs[7, 0] = 40
    dataset = changed(clean_table(), "train", inputs=inputs)
    ranged = AuditSettings(value_ranges={"age": (-9, 9)}, severity={"repeated-samples": "off"})
    finding = only([one for one in found(dataset, ranged) if one.check == "values"])
    assert (finding.count, finding.examples) == (1, ("train[7]",))
    assert found(dataset, AuditSettings(value_range=(-9, 9)))[0].check == "values"
    assert "values" not in {
        one.check for one in found(dataset, AuditSettings(value_range=(-9, 99)))
    }
    with pytest.raises(ValueError, match=r"names 'weight', .* its columns are age, pressure"):
        found(dataset, AuditSettings(value_ranges={"weight": (0, 1)}))


def test_blank_images():
    inputs = clean_images().splits["test"].inputs.copy()
    inputs[11] = 7
    finding = only(found(changed(clean_images(), "test", inputs=inputs)))
    assert (finding.check, finding.severity, finding.examples) == (
        "blank-images",
        "warning",
        ("test[11]",),
    )


@pytest.mark.parametrize(
    "kind, labels, targets, message",
    [
        (TaskKind.BINARY, 2, [0, 1, 2], r"not a whole number from 0 to 1, the first being 2\."),
        (TaskKind.ORDINAL, 2, [0, 1, -1], r"not a whole number from 0 to 1, the first being -1\."),
        (TaskKind.MULTILABEL, 2, [[0, 1], [1, 1], [0, 12]], r"not 2 values of 0 or 1.*being 0\?\."),
        (TaskKind.REGRESSION, 1, [0.5, 1.5, np.nan], r"not a finite number, the first being nan\."),
    ],
)
def test_labels_out_of_range(kind, labels, targets, message):
    import re

    wide = np.array(targets * 10, dtype=np.float32 if kind is TaskKind.REGRESSION else np.int64)
    inputs = np.random.Generator(np.random.PCG64(0)).normal(size=(30, 2)).astype(np.float32)
    names = tuple(f"label {i}" for i in range(labels))
    dataset = Dataset("rows", Task(kind, names), {"train": Split(inputs, wide)}, {"kind": "table"})
    finding = only(found(dataset))
    assert (finding.check, finding.severity, finding.count) == ("labels", "error", 10)
    assert re.search(message, finding.message), finding.message


def test_class_support():
    targets = np.zeros(60, dtype=np.int64)
    targets[:4] = 2
    dataset = changed(clean_images(), "train", targets=targets)
    finding = only(found(dataset))
    assert (
        finding.message
        == "2 labels have fewer than 5 samples in train: 'label 1' (0) and 'label 2' (4)."
    )
    assert finding.severity == "error"
    lower = changed(dataset, "test", targets=np.zeros(30, dtype=np.int64))
    warning = [one for one in found(lower) if one.splits == ("test",)]
    assert only(warning).severity == "warning"
    many = Task(TaskKind.MULTILABEL, ("a", "b"))
    marks = np.stack([np.arange(60) % 2, np.arange(60) == 3], axis=1).astype(np.int64)
    multilabel = Dataset(
        "m", many, {"train": Split(dataset.splits["train"].inputs, marks)}, dataset.features
    )
    assert only(found(multilabel)).message == "1 label has fewer than 5 samples in train: 'b' (1)."


def test_split_sizes():
    dataset = replace(clean_images(), provenance={"declared": {"train": 61, "val": 20, "extra": 4}})
    first, second = found(dataset)
    assert first.message == "train has 60 samples; its source declares 61."
    assert second.message == "extra has 0 samples; its source declares 4."


def test_owners_that_share_a_row():
    dataset = copied(clean_table(["a", "b"]), ("train", 0), ("train", 5))
    finding = only([one for one in found(dataset) if one.check == "shared-by-owners"])
    assert finding.message == "1 row of train is held by more than one owner."
    assert finding.examples == ("train[0] at a = train[5] at b",)


def leaky():
    """Duplicates train-val (twice in train), train-test and val-test."""
    dataset = copied(clean_images(), ("val", 3), ("train", 17))
    dataset = copied(dataset, ("val", 3), ("train", 18))
    dataset = copied(dataset, ("test", 1), ("train", 30))
    return copied(dataset, ("test", 2), ("val", 7))


def test_stop_is_the_default_and_says_why_in_one_sentence():
    report = audit(leaky(), AuditSettings())
    assert not report.passed
    assert report.dropped == {}
    assert report.reason == (
        "The audit of toy found that 1 image is in both train and val (2 in train, 1 in val), "
        "1 image is in both train and test (1 in train, 1 in test) and 1 image is in both val and "
        "test (1 in val, 1 in test): set audit.remedy to 'drop-from-train' or 'accept', or mend "
        "the data."
    )
    with pytest.raises(DataAuditFailed, match=r"^The audit of toy found"):
        require_passed(report)


def test_drop_from_train_drops_the_earlier_split_and_never_test():
    report = audit(leaky(), AuditSettings(remedy="drop-from-train"))
    assert require_passed(report) is report
    assert report.dropped == {"train": (17, 18, 30), "val": (7,)}
    errors = [finding.remedy for finding in report.findings if finding.severity == "error"]
    assert errors == [
        "dropped from train, which loses 3 samples in all",
        "dropped from train, which loses 3 samples in all",
        "dropped from val, which loses 1 sample in all",
    ]
    kept = {
        name: split.take(np.setdiff1d(np.arange(len(split)), report.exclusions.get(name, [])))
        for name, split in leaky().splits.items()
    }
    assert not [
        one for one in found(replace(leaky(), splits=kept)) if one.check == "exact-duplicates"
    ]


def test_drop_from_train_keeps_the_first_owner():
    dataset = copied(clean_table(["a", "b"]), ("train", 0), ("train", 5))
    dataset = copied(dataset, ("train", 0), ("train", 2))  # the same owner again: kept
    report = audit(dataset, AuditSettings(remedy="drop-from-train"))
    assert report.dropped == {"train": (5,)}
    switched_off = AuditSettings(remedy="drop-from-train", severity={"shared-by-owners": "off"})
    assert audit(dataset, switched_off).dropped == {}


def test_drop_from_train_keeps_the_first_owner_by_name_whatever_the_order_of_rows():
    dataset = copied(clean_table(["b", "a"]), ("train", 0), ("train", 5))
    report = audit(dataset, AuditSettings(remedy="drop-from-train"))
    assert report.dropped == {"train": (0,)}  # b's, though it comes first


def test_accept_goes_on_with_leaks_but_not_with_broken_data():
    report = audit(leaky(), AuditSettings(remedy="accept"))
    assert report.passed and report.dropped == {}
    assert {finding.remedy for finding in report.findings} == {"accepted"}
    inputs = clean_table().splits["train"].inputs * np.float32(np.nan)
    broken = audit(changed(clean_table(), "train", inputs=inputs), AuditSettings(remedy="accept"))
    assert broken.reason.endswith("have missing or infinite values: mend the data.")


def test_other_errors_are_not_cured_by_dropping():
    dataset = replace(clean_images(), provenance={"declared": {"train": 61}})
    report = audit(dataset, AuditSettings(remedy="drop-from-train"))
    assert report.reason.endswith("declares 61: mend the data or set audit.remedy to 'accept'.")


def test_severities_can_be_set():
    quiet = audit(leaky(), AuditSettings(severity={"exact-duplicates": "warning"}))
    assert quiet.passed
    assert {one.severity for one in quiet.findings} == {"warning"}
    silent = audit(leaky(), AuditSettings(severity={"exact-duplicates": "off"}))
    assert "exact-duplicates" not in {one.check for one in silent.findings}
    repeated = copied(clean_images(), ("train", 1), ("train", 5))
    strict = audit(repeated, AuditSettings(severity={"repeated-samples": "error"}))
    assert "1 image of train repeats an earlier one: mend the data" in strict.reason


def test_settings_refuse_nonsense():
    with pytest.raises(ValidationError, match="the lowest value comes first"):
        AuditSettings(value_range=(3, 1))
    with pytest.raises(ValidationError, match=r"age=.*the lowest value comes first"):
        AuditSettings(value_ranges={"age": (3, 1)})
    with pytest.raises(ValidationError, match="'drop-from-train'"):
        AuditSettings(remedy="ignore")
    with pytest.raises(ValidationError, match="'exact-duplicates'"):
        AuditSettings(severity={"exact": "off"})
    with pytest.raises(ValueError, match="suite='sound' does not exist; there are table, image"):
        run_checks(pd.DataFrame(), "sound", {})


def test_report_is_json_and_reads_offline():
    report = audit(leaky(), AuditSettings(remedy="drop-from-train"))
    assert AuditReport.from_json(json.loads(json.dumps(report.to_json()))) == replace(
        report, settings=report.settings
    )
    page = report.to_html()
    assert "train[17] = val[3]" in page
    assert "http" not in page and "src=" not in page
    bad_name = replace(report, subject="<script>|")
    assert "<script>" not in bad_name.to_html()
    assert "- dropped: 3 of train, 1 of val" in report.to_markdown()
    assert "**Failed. The audit of toy" in audit(leaky(), AuditSettings()).to_markdown()


def places(partition, split="train"):
    return {client: at.copy() for client, at in partition.indices[split].items()}


def test_partition_audit_passes_what_make_partition_makes():
    report = audit(leaky(), AuditSettings(remedy="drop-from-train"))
    partition = make_partition(leaky(), Iid(clients=4), 0, report.exclusions)
    audited = audit_partition(leaky(), partition, AuditSettings(), report.exclusions)
    assert audited.passed and audited.findings == ()
    assert audited.subject == "toy, partition into 4 clients"


@pytest.mark.parametrize(
    "break_it, message",
    [
        (lambda p: p.update(a=np.append(p["a"], 59)), "1 sample of train is held more than once"),
        (lambda p: p.update(a=p["a"][1:]), "1 sample of train belongs to no client"),
        (
            lambda p: p.update(a=np.append(p["a"], 17)),
            "clients hold 1 sample of train that the audit",
        ),
        (
            lambda p: p.update(a=np.append(p["a"], 99)),
            "clients hold 1 sample of train that the data",
        ),
    ],
)
def test_partition_audit_finds_broken_partitions(break_it, message):
    parts = {"a": np.setdiff1d(np.arange(30), [17]), "b": np.arange(30, 60)}
    break_it(parts)
    partition = Partition({"train": parts}, {"kind": "plugin"}, 0)
    dropped = {"train": np.array([17])}
    settings = AuditSettings(remedy="accept")
    report = audit_partition(clean_images(), partition, settings, dropped)
    assert not report.passed
    assert message in report.reason


def test_partition_audit_warns_of_shared_content_and_of_test_samples_without_a_client():
    dataset = copied(clean_table(["a", "b"]), ("train", 0), ("train", 5))
    partition = make_partition(dataset, ByOwner(), 0)
    partition = Partition({"train": places(partition)}, partition.how, 0)
    report = audit_partition(dataset, partition, AuditSettings())
    assert report.passed
    assert [finding.message for finding in report.findings] == [
        "20 samples of test belong to no client.",
        "1 row of train is held by more than one client, at the clients a and b.",
    ]
    assert report.findings[1].examples == ("train[0] at a = train[5] at b",)


def test_partition_audit_names_owners_that_are_no_clients():
    dataset = clean_table(["a", "b"])
    test = dataset.splits["test"]
    who = test.owners.astype("U20")
    who[:3], who[3:10] = "only-here", "here-too"
    partition = make_partition(changed(dataset, "test", owners=who), ByOwner(), 0)
    (finding,) = audit_partition(
        changed(dataset, "test", owners=who), partition, AuditSettings()
    ).findings
    assert finding.severity == "warning"
    assert finding.message == (
        "10 samples of test belong to no client: owners 'only-here' and 'here-too' have no "
        "training samples."
    )


def test_what_the_audit_finds_in_real_sets(fedloom_data):
    from fedcore.data.settings import HeartDisease, MedMNIST

    settings = AuditSettings(remedy="drop-from-train")
    pneumonia = audit(MedMNIST(name="pneumoniamnist").load(fedloom_data), settings)
    assert pneumonia.findings[0].message == (
        "8 images are in both train and val (10 in train, 8 in val)."
    )
    assert len(pneumonia.dropped["train"]) == 10
    breast = audit(MedMNIST(name="breastmnist").load(fedloom_data), settings)
    assert (
        breast.findings[0].message == "1 image is in both train and test (1 in train, 1 in test)."
    )
    assert breast.findings[1].check == "conflicting-labels"
    heart = audit(HeartDisease().load(fedloom_data), settings)
    assert heart.findings[0].message == "1 row is in both train and test (1 in train, 1 in test)."
