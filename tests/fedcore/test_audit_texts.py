"""Each check of texts finds what was planted, says no word of a text, and is silent otherwise."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.audit.audit import audit, audit_partition, find_problems
from fedcore.audit.minhash import most_alike, runs, signatures
from fedcore.audit.settings import AuditSettings, NearDuplicates
from fedcore.audit.table import sample_table
from fedcore.data.dataset import Dataset, Split
from fedcore.data.text_bytes import pack
from fedcore.partition.partition import Partition
from fedcore.task import Task, TaskKind

WIDTH = 2000
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))


def words(count, seed):
    """So many words of six letters, all different from those of another seed."""
    draw = np.random.default_rng(seed).choice(LETTERS, (count, 6))
    return ["".join(row) for row in draw]


def texts(sizes=(40, 12, 20), labels=2, owners=None, length=60):
    """A data set of texts that share nothing."""
    splits, seed = {}, 0
    for split, size in zip(("train", "val", "test"), sizes, strict=True):
        content = [" ".join(words(length, seed + at)) for at in range(size)]
        seed += size
        who = None if owners is None else np.array(owners)[np.arange(size) % len(owners)]
        splits[split] = Split(pack(content, WIDTH), np.arange(size) // 2 % labels, who)
    task = Task(TaskKind.MULTICLASS, tuple(f"label {i}" for i in range(labels)))
    return Dataset("notes", task, splits, {"kind": "text", "most_bytes": WIDTH})


def written(dataset, place, text, label=None):
    """The data set with another text at a (split, index)."""
    split, at = place
    part = dataset.splits[split]
    inputs, targets = part.inputs.copy(), part.targets.copy()
    inputs[at] = pack([text], WIDTH) if isinstance(text, str) else text
    targets[at] = targets[at] if label is None else label
    return replace(
        dataset, splits={**dataset.splits, split: replace(part, inputs=inputs, targets=targets)}
    )


def found(dataset, settings=None):
    settings = settings or AuditSettings()
    return find_problems(dataset, sample_table(dataset), settings)


def only(dataset, settings=None):
    [finding] = found(dataset, settings)
    return finding


@pytest.mark.parametrize("owners", [None, ["a", "b"]])
def test_clean_texts_have_no_findings(owners):
    report = audit(texts(owners=owners), AuditSettings())
    assert report.findings == () and report.passed
    assert {"empty-texts", "text-lengths", "near-duplicates"} <= set(report.checks)


NOTE = "The patient, a PATIENT nai\u0308ve, is well."
AGAIN = "  the patient,\na patient na\u00efve,  is WELL. "


def test_the_same_text_across_splits_is_an_error():
    leaky = written(written(texts(), ("train", 3), NOTE), ("test", 5), AGAIN, label=1)
    finding = only(leaky)
    assert (finding.check, finding.severity) == ("exact-duplicates", "error")
    assert finding.message == "1 text is in both train and test (1 in train, 1 in test)."
    assert finding.examples == ("train[3] = test[5]",)
    assert not audit(leaky, AuditSettings()).passed


@pytest.mark.parametrize(
    ("remedy", "dropped", "passed"),
    [("stop", {}, False), ("drop-from-train", {"train": (3,)}, True), ("accept", {}, True)],
)
def test_remedies_are_those_of_other_data(remedy, dropped, passed):
    leaky = written(written(texts(), ("train", 3), NOTE), ("val", 5), AGAIN)
    report = audit(leaky, AuditSettings(remedy=remedy))
    assert report.dropped == dropped and report.passed is passed


def test_repeats_conflicts_and_owners():
    dataset = written(texts(owners=["a", "b"]), ("train", 3), NOTE, label=0)
    dataset = written(dataset, ("train", 8), AGAIN, label=1)
    checks = {one.check: one for one in found(dataset)}
    assert set(checks) == {"repeated-samples", "conflicting-labels", "shared-by-owners"}
    message = "1 text occurs more than once with different targets."
    assert checks["conflicting-labels"].message == message
    assert checks["conflicting-labels"].examples == ("train[3]: 0 / train[8]: 1",)
    assert checks["shared-by-owners"].message == "1 text of train is held by more than one owner."


def at_clients(dataset, settings=None, **parts):
    """What the audit of a partition finds; without parts, a has the first five training texts."""
    parts = parts or {"a": np.arange(5), "b": np.arange(5, 40)}
    central = {"a": np.arange(6), "b": np.arange(6, 12)}, {"a": np.arange(20)}
    indices = dict(zip(("train", "val", "test"), (parts, *central), strict=True))
    partition = Partition(indices, {"kind": "iid"}, 0)
    return audit_partition(dataset, partition, settings or AuditSettings()).findings


def test_the_same_text_at_two_clients():
    dataset = written(written(texts(), ("train", 3), NOTE), ("train", 8), AGAIN)
    [finding] = at_clients(dataset)
    assert (finding.check, finding.severity) == ("shared-by-clients", "warning")
    assert finding.message == (
        "1 text of train is held by more than one client, at the clients a and b."
    )
    assert finding.examples == ("train[3] at a = train[8] at b",)


def test_empty_texts():
    dataset = written(written(texts(), ("train", 3), ""), ("train", 9), " \n\t", label=1)
    checks = {one.check: one for one in found(dataset)}
    assert set(checks) == {"empty-texts", "repeated-samples"}
    assert checks["empty-texts"].message == "2 texts of train have no word."
    assert checks["empty-texts"].severity == "warning"
    assert only(written(texts(), ("val", 1), "")).message == "1 text of val has no word."


def test_long_texts():
    dataset = written(texts(), ("train", 3), " ".join(words(250, 900)))
    finding = only(dataset)
    assert finding.check == "text-lengths" and finding.severity == "warning"
    assert finding.message == (
        "1 text of train has more than 200 words, the longest 250: the model reads their "
        "beginnings."
    )
    assert found(dataset, AuditSettings(most_words=250)) == ()
    # 60 words of 6 letters have 419 bytes.
    assert only(texts((6, 5, 5), 1), AuditSettings(most_words=59)).count == 16


@pytest.mark.parametrize(("size", "count"), [(WIDTH - 4, 0), (WIDTH - 3, 1), (WIDTH, 1)])
def test_texts_that_may_have_been_cut(size, count):
    dataset = written(texts(), ("train", 3), "x" * size)
    findings = found(dataset)
    assert len(findings) == count
    for finding in findings:
        assert finding.message == (
            "1 text of train fills the bytes that are kept of each and may have been cut."
        )
    assert len(found(written(texts(), ("train", 3), "x" + "é" * WIDTH))) == 1


def test_what_is_no_text_stops_the_run():
    broken = np.full((1, WIDTH), 255, np.uint8)
    finding = [one for one in found(written(texts(), ("val", 2), broken)) if one.check == "values"]
    assert [(one.severity, one.message) for one in finding] == [
        ("error", "1 text of val is not UTF-8.")
    ]
    report = audit(written(texts(), ("val", 2), broken), AuditSettings(remedy="accept"))
    assert not report.passed


def test_label_support_schema_and_sizes():
    dataset = replace(texts(labels=30), provenance={"declared": {"train": 41}})
    checks = {one.check for one in found(dataset)}
    assert checks == {"class-support", "split-sizes"}
    wide = replace(texts(), features={"kind": "text", "most_bytes": 99})
    assert {one.check for one in found(wide)} == {"schema"}


def test_ranges_of_numbers_are_refused():
    with pytest.raises(ValueError, match=r"value_range=\(0.0, 1.0\) is for numbers; .* are texts"):
        audit(texts(), AuditSettings(value_range=(0, 1)))
    with pytest.raises(ValueError, match="value_ranges names 'age'"):
        audit(texts(), AuditSettings(value_ranges={"age": (0, 1)}))


# -- nearly the same -------------------------------------------------------------------------------


def changed_words(text, count, seed=0):
    """The text with so many of its words replaced, far from each other."""
    parts = text.split()
    for at in np.linspace(2, len(parts) - 3, count).astype(int):
        parts[at] = f"other{seed}{at}"
    return " ".join(parts)


def test_nearly_the_same_text_is_a_warning():
    note = " ".join(words(150, 900))
    dataset = written(texts(), ("train", 7), note)
    dataset = written(dataset, ("test", 4), changed_words(note, 2).upper())
    finding = only(dataset)
    assert (finding.check, finding.severity) == ("near-duplicates", "warning")
    assert finding.splits == ("train", "test")
    assert finding.message == (
        "1 text of test has at least 80% of runs of 5 words in common with a text of train."
    )
    [example] = finding.examples
    assert example.startswith("train[7] ~ test[4] (") and example.endswith("%)")
    for near in (NearDuplicates(enabled=False), NearDuplicates(similarity=1.0)):
        assert found(dataset, AuditSettings(near_duplicates=near)) == ()
    # 30 of 150 words apart nearly every run differs.
    far = written(dataset, ("test", 4), changed_words(note, 30))
    assert found(far) == ()


def nearly_the_same(*places):
    """A data set in which texts at these places of train are nearly the same."""
    note = " ".join(words(150, 900))
    dataset = texts()
    for number, at in enumerate(places):
        dataset = written(dataset, ("train", at), changed_words(note, 1, number))
    return dataset


def test_nearly_the_same_text_at_two_clients_is_a_warning():
    dataset = nearly_the_same(2, 7, 39)
    [finding] = at_clients(dataset)
    assert (finding.check, finding.severity) == ("alike-at-clients", "warning")
    assert (finding.splits, finding.count) == (("train",), 3)
    assert finding.message == (
        "3 texts of train have at least 80% of runs of 5 words in common with a text of another "
        "client, at the clients a and b."
    )
    pairs = [example.split(" (")[0] for example in finding.examples]
    assert sorted(pairs) == ["train[2] at a ~ train[39] at b", "train[2] at a ~ train[7] at b"]
    for near in (NearDuplicates(enabled=False), NearDuplicates(similarity=1.0)):
        assert at_clients(dataset, AuditSettings(near_duplicates=near)) == ()
    severe = AuditSettings(severity={"alike-at-clients": "error"})
    assert [one.severity for one in at_clients(dataset, severe)] == ["error"]


def test_texts_that_are_alike_at_one_client_are_its_own_affair():
    assert at_clients(nearly_the_same(6, 7, 39)) == ()
    third = {"a": np.arange(5), "b": np.arange(5, 20), "c": np.arange(20, 40)}
    [finding] = at_clients(nearly_the_same(6, 7, 39), **third)
    assert finding.count == 3 and finding.message.endswith("at the clients b and c.")


def test_a_text_that_two_clients_hold_and_one_that_is_nearly_the_same():
    dataset = nearly_the_same(2, 3)
    same = " ".join(changed_words(" ".join(words(150, 900)), 1).upper().split())
    shared, alike = at_clients(written(dataset, ("train", 9), same))
    assert (shared.check, shared.count) == ("shared-by-clients", 1)
    # The text at a and b, and the one at a that is like that of b.
    assert (alike.check, alike.count) == ("alike-at-clients", 2)
    assert [one.split(" (")[0] for one in alike.examples] == ["train[9] at b ~ train[3] at a"]


def test_no_word_of_a_text_is_in_a_report():
    note = " ".join(["pneumothorax", *words(100, 900)])
    dataset = written(written(texts(), ("train", 7), note), ("test", 4), changed_words(note, 1))
    dataset = written(written(dataset, ("train", 9), NOTE), ("val", 2), AGAIN)
    dataset = written(written(dataset, ("val", 3), ""), ("val", 4), " ".join(words(220, 7)))
    report = audit(dataset, AuditSettings())
    assert {one.check for one in report.findings} >= {
        "near-duplicates",
        "exact-duplicates",
        "empty-texts",
        "text-lengths",
    }
    said = report.to_markdown() + report.to_html() + str(report.to_json())
    assert not any(word in said.lower() for word in ("pneumothorax", "patient", *words(60, 0)))


def jaccard(one, other):
    first, second = set(runs(one)), set(runs(other))
    return len(first & second) / len(first | second)


def test_signatures_estimate_the_share_of_runs():
    base = " ".join(words(200, 1))
    others = [changed_words(base, count) for count in range(0, 30, 2)]
    rows = signatures([base, *others])
    for row, other in zip(rows[1:], others, strict=True):
        share, exact = (row == rows[0]).mean(), jaccard(base, other)
        # Four standard deviations of 128 draws.
        assert abs(share - exact) <= 4 * np.sqrt(exact * (1 - exact) / 128) + 1e-9


def test_the_index_finds_what_all_pairs_find():
    bases = [" ".join(words(120, seed)) for seed in range(12)]
    hay = signatures([*bases, *(changed_words(one, 3, 7) for one in bases)])
    pins = signatures([changed_words(one, count) for count in (0, 1, 2, 4) for one in bases])
    at, share = most_alike(hay, pins, 0.8)
    shares = (pins[:, None] == hay[None]).mean(axis=2)
    best = shares.argmax(axis=1)
    expected = np.where(shares.max(axis=1) >= 0.8, best, -1)
    assert np.array_equal(at, expected)
    assert np.array_equal(share, np.where(expected >= 0, shares.max(axis=1), 0))
    assert (expected >= 0).sum() > 20 > (expected < 0).sum() > 3


def test_signatures_are_fixed_forever():
    # Golden: what two machines or releases find must not differ.
    row = signatures(["the patient is well and goes home"])[0]
    assert row.dtype == np.uint32 and row[:4].tolist() == GOLDEN


GOLDEN = [529547355, 722996658, 2149874156, 768758111]


@given(st.lists(st.sampled_from("abc"), max_size=12))
def test_runs_of_short_and_long_texts(parts):
    found = runs(" ".join(parts))
    assert len(set(found)) == len(found)
    assert (found == []) == (parts == [])
    assert all(len(run.split()) == min(5, len(parts)) for run in found)


def test_texts_without_a_word_are_like_nothing():
    rows = signatures(["", "one two", ""])
    at, share = most_alike(rows, rows, 0.8)
    assert at.tolist() == [-1, 1, -1] and share.tolist() == [0, 1, 0]
    none = np.empty((0, 128), np.uint32)
    assert most_alike(none, rows, 0.8)[0].tolist() == [-1] * 3
    assert most_alike(rows, none, 0.8)[0].shape == (0,)
