"""Samples that sites share: the findings and exclusions of the audit of all rows in one place."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedcore.audit.audit import audit
from fedcore.audit.settings import AuditSettings
from fedcore.data.dataset import Dataset, Split
from fedcore.data.text_bytes import pack
from fedcore.sites.description import describe
from fedcore.sites.inquiry import Inquiry, sample_hash
from fedcore.sites.local_rows import local_rows
from fedcore.sites.shared import audit_sites, shared_samples
from fedcore.task import Task, TaskKind

SALT = "07" * 32
SITES = ("a", "b", "c")
SETTINGS = AuditSettings(remedy="drop-from-train", min_class_support=1)


def joint(rows):
    """A data set of (split, owner, value) rows of one column, in their order."""
    splits = {}
    for split in ("train", "val", "test"):
        part = [(owner, value) for where, owner, value in rows if where == split]
        if part:
            owners, values = zip(*part, strict=True)
            inputs = np.array(values, np.float32)[:, None]
            # The same input has the same target: other targets are seen in one place only.
            targets = np.nan_to_num(inputs[:, 0]).astype(np.int64) % 2
            splits[split] = Split(inputs, targets, np.array(owners))
    task = Task(TaskKind.BINARY, ("no", "yes"))
    return Dataset("tiny", task, splits, {"kind": "table", "names": ["x"]})


def own(dataset, owner):
    parts = {s: p.take(np.flatnonzero(p.owners == owner)) for s, p in dataset.splits.items()}
    return replace(dataset, splits={s: p for s, p in parts.items() if len(p)})


def ask(dataset, rules=SETTINGS, drop=None):
    return [
        describe(
            own(dataset, s), s, Inquiry(rules, "none", SALT, (drop or {}).get(s, {})), secret=b""
        )
        for s in SITES
    ]


def left_at_sites(dataset, drop):
    """Split -> indices into the joint data set that no site keeps."""
    out = {}
    for site in SITES:
        inquiry = Inquiry(SETTINGS, "none", SALT, drop.get(site, {}))
        kept = local_rows(own(dataset, site), site, inquiry).partition.indices
        for split, part in dataset.splits.items():
            rows = np.flatnonzero(part.owners == site)
            at = kept.get(split, {}).get(site, np.empty(0, np.int64))
            out.setdefault(split, []).extend(np.delete(rows, at).tolist())
    return {split: sorted(at) for split, at in out.items() if at}


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["train", "train", "val", "test"]),
        st.sampled_from(SITES),
        st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.0]),
    ),
    max_size=14,
)


@given(ROWS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_dropped_is_what_the_audit_of_all_rows_drops(rows):
    # Every site keeps a training row whatever is dropped.
    dataset = joint([*rows, *(("train", site, 10.0 + k) for k, site in enumerate(SITES))])
    _, drop = audit_sites(ask(dataset), SETTINGS)
    expected = audit(dataset, SETTINGS).dropped
    assert left_at_sites(dataset, drop) == {split: list(at) for split, at in expected.items()}


SHARED = joint(
    [
        *(("train", site, 10.0 + k) for k, site in enumerate(SITES)),
        *(("train", "a", 20.0 + k) for k in range(3)),
        *[("train", "a", 1.0), ("train", "b", 1.0), ("test", "c", 2.0), ("train", "a", 2.0)],
        *[("test", "c", 3.0), ("test", "b", 3.0)],
    ]
)


def test_texts_are_the_same_at_two_sites_however_they_are_written():
    rows = [
        ("train", "a", "The patient is well."),
        ("train", "a", "nothing else"),
        ("train", "b", "the PATIENT  is well. "),
        ("train", "b", "else nothing"),
        ("train", "c", "a third site"),
    ]
    owners, texts = (np.array([row[at] for row in rows]) for at in (1, 2))
    split = Split(pack(texts.tolist(), 40), np.arange(5) % 2, owners)
    features = {"kind": "text", "most_bytes": 40}
    dataset = Dataset("tiny", Task(TaskKind.BINARY, ("no", "yes")), {"train": split}, features)
    report, drop = audit_sites(ask(dataset), SETTINGS)
    assert [one.message for one in report.findings if one.check == "shared-by-owners"] == [
        "1 text of train is held by more than one owner, at the sites a and b."
    ]
    assert left_at_sites(dataset, drop) == {"train": [2]}


@pytest.mark.parametrize("remedy", ["stop", "drop-from-train", "accept"])
def test_the_gate_says_what_it_says_in_one_place(remedy):
    rules = AuditSettings(remedy=remedy, min_class_support=1)
    there, drop = audit_sites(ask(SHARED, rules), rules)
    here = audit(SHARED, rules)
    assert there.passed == here.passed and there.sizes == here.sizes
    told, expected = (
        sorted((one.check, one.severity, one.splits, one.count, one.remedy) for one in found)
        for found in (there.findings, here.findings)
    )
    assert told == expected
    assert {s: len(at) for s, at in there.dropped.items()} == {
        s: len(at) for s, at in here.dropped.items()
    }
    assert bool(drop) == (remedy == "drop-from-train")


def test_a_finding_names_the_sites_and_no_row():
    found, drop = shared_samples(ask(SHARED, AuditSettings()), AuditSettings())
    assert drop == {} and not any(one.examples for one in found)
    assert [one.message for one in found] == [
        "1 row is in both train and test (1 in train, 1 in test), at the sites a and c.",
        "1 row of train repeats an earlier one, at the sites a and b.",
        "1 row of test repeats an earlier one, at the sites b and c.",
        "1 row of train is held by more than one owner, at the sites a and b.",
    ]
    report, _ = audit_sites(ask(SHARED, AuditSettings()), AuditSettings())
    assert "at the sites a and c" in report.reason and "audit.remedy" in report.reason


def test_what_a_site_drops_is_told_by_hashes_that_it_knows():
    _, drop = shared_samples(ask(SHARED), SETTINGS)
    assert {site: {s: len(h) for s, h in of.items()} for site, of in drop.items()} == {
        "a": {"train": 1},
        "b": {"train": 1},
    }
    after = ask(SHARED, drop=drop)
    assert after[0].dropped == {"train": 1} and after[0].sizes["train"] == 5
    assert shared_samples(after, SETTINGS)[1] == {}


def test_labels_are_rare_only_in_all_sites_together():
    rows = [("train", site, float(k)) for k, site in enumerate("aabbcc")]
    rules = AuditSettings(min_class_support=3)
    report, _ = audit_sites(ask(joint(rows), rules), rules)
    assert report.passed  # each site has one of each label, all together three
    short = AuditSettings(min_class_support=4)
    report, _ = audit_sites(ask(joint(rows), short), short)
    assert report.reason == audit(joint(rows), short).reason.replace("tiny", "the data of 3 sites")


def test_a_problem_of_one_site_stops_the_run_by_its_code():
    value = {"a": 1.0, "b": np.nan, "c": 2.0}
    rules = AuditSettings(remedy="accept")
    rows = [("train", site, value[site] + k) for k, site in enumerate("aabbcc")]
    report, _ = audit_sites(ask(joint(rows), rules), rules)
    assert "site b reports values (2 in train)" in report.reason
    assert "mend the data" in report.reason


def test_the_salt_decides_the_hashes_and_minus_zero_is_zero():
    digest = "ab" * 32
    assert sample_hash(SALT, digest) != sample_hash("08" * 32, digest) != digest[:32]
    plus, minus = (ask(joint([("train", s, v) for s in SITES]))[0].samples for v in (0.0, -0.0))
    assert plus == minus


def test_rows_of_others_and_unknown_hashes_are_refused():
    plain = Inquiry(SETTINGS, "none", SALT)
    with pytest.raises(ValueError, match="site 'a' has train rows of 2 other owners, such as 'b'"):
        local_rows(SHARED, "a", plain)
    strange = replace(plain, drop={"train": ("0" * 32,)})
    with pytest.raises(ValueError, match="names 1 samples of train that this site does not hold"):
        local_rows(own(SHARED, "a"), "a", strange)
    rows = own(joint([("train", "a", 1.0), ("test", "a", 1.0)]), "a")
    with pytest.raises(ValueError, match="site 'a' has no training row left once duplicates"):
        local_rows(rows, "a", plain)


def test_what_only_one_site_holds_is_its_own_finding_and_told_once():
    rows = [("train", site, 10.0 + k) for k, site in enumerate(SITES)]
    rows += [("train", "a", 1.0), ("train", "a", 1.0), ("test", "b", 11.0)]
    descriptions = ask(joint(rows), AuditSettings(min_class_support=1))
    assert shared_samples(descriptions, SETTINGS) == ((), {})
    report, _ = audit_sites(descriptions, AuditSettings(min_class_support=1))
    assert [one.message for one in report.findings if one.check != "class-support"] == [
        "site b reports exact-duplicates (1 in train and test).",
        "site a reports repeated-samples (1 in train).",
    ]
