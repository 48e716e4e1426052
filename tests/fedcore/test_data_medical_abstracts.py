"""Medical Abstracts: the real file where it is, and small files of the same format."""

import csv
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from fedcore.audit.audit import audit, find_problems
from fedcore.audit.settings import AuditSettings
from fedcore.audit.table import sample_table
from fedcore.data import medical_abstracts
from fedcore.data.checksum import ChecksumMismatch, md5_of
from fedcore.data.dataset import Split
from fedcore.data.download import DataNotFound
from fedcore.data.medical_abstracts import FOLDS, LABELS, TEXTS, MedicalAbstracts
from fedcore.data.splits import hold_out
from fedcore.data.text_bytes import unpack


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Files of the official format: 40 texts, four of them twice with another label."""
    folder = tmp_path / "text" / "medical_abstracts"
    folder.mkdir(parents=True)
    rows = [(str(1 + i % 5), f"Study {i}, of mice. ") for i in range(40)]
    rows += [(str(1 + (i + 1) % 5), f"Study {i}, of  MICE.") for i in range(4)]
    with (folder / TEXTS).open("w", newline="") as file:
        csv.writer(file).writerows([("condition_label", "medical_abstract"), *rows])
    with (folder / LABELS).open("w", newline="") as file:
        names = [("condition_label", "condition_name"), *((str(i), f"c{i}") for i in range(1, 6))]
        csv.writer(file).writerows(names)
    sums = {name: md5_of(folder / name) for name in (TEXTS, LABELS)}
    monkeypatch.setattr(medical_abstracts, "MD5", sums)
    return tmp_path


def test_folds_part_the_rows_and_go_by_text(small):
    tests = []
    for fold in range(FOLDS):
        dataset = MedicalAbstracts(fold=fold, download=False).load(small)
        assert dataset.task.labels == ("c1", "c2", "c3", "c4", "c5")
        train, test = (unpack(dataset.splits[split].inputs) for split in ("train", "test"))
        assert len(train) + len(test) == 44
        words = [{" ".join(text.lower().split()) for text in part} for part in (train, test)]
        assert not words[0] & words[1]
        tests += test
    assert len(tests) == 44 and len(set(tests)) == 44


def test_validation_goes_by_text_too(small):
    dataset = MedicalAbstracts(val_fraction=0.25, download=False).load(small)
    parts = {
        split: {" ".join(text.lower().split()) for text in unpack(part.inputs)}
        for split, part in dataset.splits.items()
    }
    assert sum(map(len, parts.values())) == 40
    assert len(parts["val"]) == 8


def test_another_file_is_refused(small):
    path = small / "text" / "medical_abstracts" / TEXTS
    path.write_text(path.read_text().replace("mice", "rats"))
    with pytest.raises(ChecksumMismatch, match=r"medical_tc_test.csv has md5"):
        MedicalAbstracts(download=False).load(small)


def test_missing_files_say_where_they_are_published(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataNotFound, match=r"Get https://.*/Medical-Abstracts-TC-Corpus/.*csv"):
        MedicalAbstracts(download=False).load(tmp_path)


@pytest.mark.parametrize("name", [TEXTS, LABELS])
def test_files_of_another_format_are_refused(small, monkeypatch, name):
    path = small / "text" / "medical_abstracts" / name
    path.write_text(path.read_text().replace("condition_label", "label", 1))
    monkeypatch.setitem(medical_abstracts.MD5, name, md5_of(path))
    with pytest.raises(ValueError, match=r"has columns \['label', .*Get the official file"):
        MedicalAbstracts(download=False).load(small)


# -- the real file ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(fedloom_data):
    return MedicalAbstracts(download=False).load(fedloom_data)


def by_hand(folder):
    """Text -> labels of its rows, read by the csv module and compared in lower case."""
    found = defaultdict(list)
    with (folder / "text" / "medical_abstracts" / TEXTS).open(newline="") as file:
        for label, text in list(csv.reader(file))[1:]:
            found[" ".join(text.lower().split())].append(int(label) - 1)
    return found


def test_published_sizes(real):
    everything = np.concatenate([part.targets for part in real.splits.values()])
    # The README of the source: test rows of each class.
    assert np.bincount(everything).tolist() == [633, 299, 385, 610, 961]
    assert real.task.labels[1] == "digestive system diseases"


def test_audit_finds_the_113_texts_that_repeat_with_other_labels(real, fedloom_data):
    repeated = {text: labels for text, labels in by_hand(fedloom_data).items() if len(labels) > 1}
    assert len(repeated) == 113 and all(len(set(labels)) > 1 for labels in repeated.values())
    report = audit(real, AuditSettings())
    counts = Counter()
    for finding in report.findings:
        counts[finding.check] += finding.count
    assert counts["conflicting-labels"] == 113
    assert counts["repeated-samples"] == 2888 - 2770 == sum(map(len, repeated.values())) - 113
    assert "exact-duplicates" not in counts and report.passed
    words = unpack(real.splits["train"].inputs[:1])[0].split()[:4]
    assert " ".join(words) not in report.to_markdown() + report.to_html()


def test_drawn_by_row_a_third_of_the_repeated_texts_would_leak(real):
    parts = real.splits.values()
    whole = Split(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("inputs", "targets"))
    )
    by_row = hold_out({"train": whole}, real.task, name="x", test_fraction=0.2)
    leaky = replace(real, splits=by_row)
    table = sample_table(leaky, finds_alike=False)
    [leak] = [
        one
        for one in find_problems(leaky, table, AuditSettings())
        if one.check == "exact-duplicates"
    ]
    assert leak.severity == "error" and 113 / 4 < leak.count < 113 / 2


def test_folds_of_the_real_file(fedloom_data, real):
    folds = [MedicalAbstracts(fold=fold, download=False).load(fedloom_data) for fold in (1, 4)]
    for dataset in (real, *folds):
        train, test = dataset.splits["train"], dataset.splits["test"]
        assert abs(len(test) - 2888 / 5) < 2 and len(train) + len(test) == 2888
        shares = np.bincount(test.targets) / np.bincount(
            np.concatenate([train.targets, test.targets])
        )
        assert np.abs(shares - 0.2).max() < 0.02
