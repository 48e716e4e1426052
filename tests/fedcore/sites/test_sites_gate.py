"""The gate: default deny, each rule both ways, releases once and for all, a log without values."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.sites.audit_entry import LogBroken
from fedcore.sites.audit_log import AuditLog
from fedcore.sites.codes import Code
from fedcore.sites.folder import SiteSettings, make_site
from fedcore.sites.gate import Gate, open_gate
from fedcore.sites.outgoing import (
    Asked,
    Delta,
    Excuse,
    Facts,
    Measured,
    Released,
    Withheld,
)
from fedcore.sites.policy import Policy, PolicyError
from fedcore.sites.status import Approved, SiteStatus, StatusError, resume
from fedcore.store import Store
from fedcore.tensors import encode

CANARY = "Mrs Smith, 1951-03-02"
KEY, PLAN, CODE = "1" * 64, "a" * 64, "c" * 64
TEMPLATE = {"w": np.ones((3, 2), np.float32), "b": np.zeros(2, np.float32)}
ARRAYS = {"w": np.arange(6, dtype=np.float32).reshape(3, 2), "b": np.full(2, -1, np.float32)}
TRAINED = Delta(ARRAYS, TEMPLATE, 50, {"loss": 0.123456})
MEASURED = Measured(50, {"accuracy": 0.876543})
ASKED = Asked("heart-1", "heart-disease", "train", 1, KEY, PLAN, CODE)
ALLOWED = {
    "runs": ["heart-*"],
    "purposes": ["heart-disease"],
    "jobs": ["train", "evaluate", "audit", "statistics", "prepare"],
    "approval": {"kind": "by_rule", "code": [CODE]},
    "metrics": {"kind": "exact"},
    "statistics": ["count", "mean", "names", "unit", "hash"],
}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


class Site:
    """A gate whose policy, status and clock a test sets."""

    def __init__(self, folder):
        self.now = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
        self.log = AuditLog(folder / "log.jsonl", clock=lambda: self.now)
        self.store = Store(folder / "store")
        self.values, self.status = dict(ALLOWED), SiteStatus("running")
        self.gate = self.restarted()

    def restarted(self):
        return Gate(
            policy=lambda: Policy.model_validate(self.values),
            status=lambda: self.status,
            log=self.log,
            secret=bytes(range(32)),
            store=self.store,
        )

    def release(self, value=TRAINED, /, **asked):
        return self.gate.release(replace(ASKED, **asked), value)

    def code(self, value=TRAINED, /, **asked):
        """The code with which a value is withheld; None when it is released."""
        decision = self.release(value, **asked)
        return decision.code if isinstance(decision, Withheld) else None

    def actions(self):
        return [entry.action for entry in self.log.entries()]


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def key(number):
    return f"{number:064x}"


# -- what leaves -----------------------------------------------------------------------------------


def test_an_update_without_clip_and_noise_leaves_as_it_is(site):
    released = site.release()
    assert site.store.get(released.blob) == encode(ARRAYS)  # so that engines give equal digests
    assert (released.num_examples, released.metrics) == (50, {"loss": 0.123456})
    assert (released.facts, released.code) == ({}, "")


def test_a_release_is_one_entry_with_names_and_bytes(site):
    released = site.release()
    [entry] = site.log.entries()
    assert (entry.action, entry.run, entry.subject, entry.reason) == (
        *("released", "heart-1", "train", ""),
    )
    assert entry.details["fields"] == ["metrics.loss", "num_examples", "delta"]
    assert entry.details["bytes"] > released.blob.size == len(encode(ARRAYS))
    assert entry.details["blob"] == released.blob.digest
    assert entry.details["policy"] == Policy.model_validate(ALLOWED).digest
    assert "0.123" not in site.log.path.read_text()


@pytest.mark.parametrize("kind", ALLOWED["jobs"])
@pytest.mark.parametrize("value", [TRAINED, MEASURED, Facts(), Excuse(Code.WORK_FAILED)])
def test_an_empty_policy_releases_nothing(site, kind, value):
    site.values = {}
    assert site.code(value, kind=kind) is Code.RUN_NOT_ALLOWED
    assert site.actions() == ["withheld"] and site.store.names("") == []


WITHOUT = [
    ({"runs": ["lung-*"]}, Code.RUN_NOT_ALLOWED),
    ({"runs": ["heart"]}, Code.RUN_NOT_ALLOWED),
    ({"runs": ["HEART-*"]}, Code.RUN_NOT_ALLOWED),
    ({"purposes": ["heart"]}, Code.PURPOSE_NOT_ALLOWED),
    ({"jobs": ["evaluate"]}, Code.JOB_NOT_ALLOWED),
    ({"approval": {"kind": "by_rule", "code": ["d" * 64]}}, Code.NOT_APPROVED),
    ({"approval": {"kind": "by_hand"}}, Code.NOT_APPROVED),
    ({"minimum_examples": 51}, Code.TOO_FEW_EXAMPLES),
    ({"metric_names": ["accuracy"]}, Code.METRIC_NOT_ALLOWED),
    ({"max_bytes": 31}, Code.TOO_LARGE),  # 8 numbers of 4 bytes: before anything is made of them
    ({"max_bytes": 200}, Code.TOO_LARGE),
    ({"rounds_per_day": 0}, Code.TOO_MANY_ROUNDS),
]


@pytest.mark.parametrize(("changes", "code"), WITHOUT)
def test_each_rule_withholds(site, changes, code):
    site.values |= changes
    assert site.code() is code
    [entry] = site.log.entries()
    assert (entry.action, entry.reason) == ("withheld", code.value)
    assert set(entry.details) == {"round", "key", "policy"} and site.store.names("") == []


@pytest.mark.parametrize(
    "changes",
    [{"minimum_examples": 50}, {"runs": ["heart-1"]}, {"rounds_per_day": 1}, {"jobs": ["train"]}],
)
def test_each_rule_lets_through_at_its_bound(site, changes):
    site.values |= changes
    assert site.code() is None


def test_approval_by_hand_is_of_one_plan_and_program(site):
    site.values["approval"] = {"kind": "by_hand"}
    site.status = SiteStatus("running", (), (Approved("heart-1", PLAN, CODE),))
    assert site.code() is None
    for other in ({"plan": "b" * 64}, {"code": "d" * 64}, {"run": "heart-2"}):
        assert site.code(**other, key=key(9)) is Code.NOT_APPROVED


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (SiteStatus(), Code.SITE_PAUSED),
        (SiteStatus("paused"), Code.SITE_PAUSED),
        (SiteStatus("running", ("heart-1",)), Code.RUN_WITHDRAWN),
    ],
)
def test_a_paused_site_and_a_withdrawn_run_release_nothing(site, status, code):
    assert site.code() is None
    site.status = status
    for value, kind in ((TRAINED, "train"), (MEASURED, "evaluate"), (Excuse(code), "train")):
        assert site.code(value, kind=kind) is code  # also what was released before
    assert site.gate.again(ASKED).code is code
    site.status = SiteStatus("running", ("heart-2",))
    assert site.code() is None and site.actions()[-1] == "resent"


def test_files_that_cannot_be_read_let_nothing_out(site):
    def no_status():
        raise StatusError(CANARY)

    def no_policy():
        raise PolicyError(CANARY)

    site.gate.status = no_status
    assert site.code() is site.code(Excuse(Code.WORK_FAILED)) is Code.SITE_NOT_READY
    site.gate.policy = no_policy
    assert site.code() is Code.SITE_NOT_READY and site.gate.again(ASKED) is None
    assert site.gate.preview(ASKED, TRAINED).withheld.code is Code.SITE_NOT_READY
    assert CANARY not in site.log.path.read_text()


# -- once and for all ------------------------------------------------------------------------------


def test_a_release_is_sent_again_as_it_was(site):
    first = site.release()
    other = replace(TRAINED, arrays={**ARRAYS, "b": np.zeros(2, np.float32)}, num_examples=99)
    assert site.release(other) == first == site.gate.again(ASKED)
    assert site.restarted().release(ASKED, TRAINED) == first
    assert site.release(run="heart-2", round=3) == first  # the same job in another run
    assert site.actions() == ["released", *["resent"] * 4]


def test_nothing_is_sent_again_that_was_not_released(site):
    assert site.gate.again(ASKED) is None
    site.values["minimum_examples"] = 51
    site.release()
    assert site.gate.again(ASKED) is None and site.actions() == ["withheld"]


@pytest.mark.parametrize(
    "changes",
    [
        {"clip_norm": 1.0},
        {"clip_norm": 9e5, "noise_stddev": 0.1},
        {"metrics": {"kind": "withhold"}},
        {"minimum_examples": 11},
    ],
)
def test_a_release_under_other_rules_is_not_sent_again(site, changes):
    site.release()
    site.values |= changes
    assert site.code() is site.gate.again(ASKED).code is Code.RELEASED_BEFORE
    assert site.code(key=key(2)) is None


def test_rules_that_do_not_touch_a_release_do_not_stop_it(site):
    first = site.release()
    site.values |= {"rounds_per_day": 7, "runs": ["heart-1", "lung"], "minimum_group": 5}
    assert site.release() == first


@pytest.mark.parametrize("damage", ["record", "digest", "blob"])
def test_a_damaged_release_is_not_computed_again(site, damage):
    released = site.release()
    [record] = site.store.names("released")
    if damage == "record":
        site.store.write(record, b"{")
    elif damage == "digest":
        site.store.write(record, site.store.read(record).replace(b"0.123456", b"0.123457"))
    else:
        site.store.write(f"blobs/{released.blob.digest[:2]}/{released.blob.digest}", b"other")
    assert site.code() is site.gate.again(ASKED).code is Code.RELEASED_BEFORE


def test_a_power_cut_before_the_entry_costs_nothing_and_counts(site, monkeypatch):
    site.values["rounds_per_day"] = 1
    monkeypatch.setattr(Gate, "_log", lambda *_: (_ for _ in ()).throw(OSError("cut")))
    with pytest.raises(OSError, match="cut"):
        site.release()
    monkeypatch.undo()
    assert site.log.verify().count == 0
    assert isinstance(site.release(), Released) and site.actions() == ["resent"]
    assert site.code(round=2, key=key(2)) is Code.TOO_MANY_ROUNDS


def test_without_a_log_nothing_leaves(site):
    site.release()
    site.log.path.write_bytes(site.log.path.read_bytes().replace(b"train", b"trial"))
    for call in (site.release, lambda: site.gate.again(ASKED), lambda: site.release(key=key(2))):
        with pytest.raises(LogBroken, match="changed"):
            call()


# -- how much --------------------------------------------------------------------------------------


def test_rounds_of_a_day_are_counted_from_the_log(site):
    site.values["rounds_per_day"] = 2
    assert [site.code(round=n, key=key(n)) for n in (1, 2)] == [None, None]
    assert site.code(round=3, key=key(3)) is Code.TOO_MANY_ROUNDS
    assert site.code(MEASURED, kind="evaluate", round=2, key=key(9)) is None  # the same round
    assert site.code(run="heart-2", round=2, key=key(3)) is Code.TOO_MANY_ROUNDS
    site.gate = site.restarted()
    assert site.code(round=3, key=key(3)) is Code.TOO_MANY_ROUNDS
    assert site.code(round=1, key=key(1)) is None  # sent again


def test_a_new_day_begins_at_midnight_utc_and_an_old_one_does_not_come_back(site):
    site.values["rounds_per_day"] = 1
    assert site.code(round=1, key=key(1)) is None
    site.now += timedelta(minutes=29)
    assert site.code(round=2, key=key(2)) is Code.TOO_MANY_ROUNDS
    site.now += timedelta(minutes=1)
    assert site.code(round=2, key=key(2)) is None
    site.now -= timedelta(days=3)  # the clock was set back
    assert site.code(round=3, key=key(3)) is Code.TOO_MANY_ROUNDS


def test_what_is_withheld_or_previewed_does_not_count(site):
    site.values |= {"rounds_per_day": 1, "answers_per_round": 1}
    for number in range(3):
        assert site.code(Facts(), round=number, key=key(number)) is Code.WRONG_KIND
        site.gate.preview(replace(ASKED, round=number, key=key(number)), TRAINED)
        site.release(Excuse(Code.WORK_FAILED), round=number, key=key(number))
    assert site.code(round=7, key=key(7)) is None


def test_answers_of_a_kind_in_a_round_are_counted(site):
    site.values["answers_per_round"] = 2
    codes = [site.code(key=key(number)) for number in (1, 2, 2, 3)]
    assert codes == [None, None, None, Code.TOO_MANY_ANSWERS]
    assert site.code(MEASURED, kind="evaluate", key=key(3)) is None
    assert site.code(round=2, key=key(3)) is None


def test_two_gates_share_one_count(site):
    site.values["rounds_per_day"] = 1
    other = site.restarted()
    assert site.code(round=1, key=key(1)) is None
    refused = other.release(replace(ASKED, round=2, key=key(2)), TRAINED)
    assert refused.code is Code.TOO_MANY_ROUNDS


# -- before anything leaves ------------------------------------------------------------------------


def test_a_preview_says_what_would_leave_and_keeps_nothing(site):
    site.values |= {"clip_norm": 1.0, "metrics": {"kind": "rounded", "decimals": 1}}
    preview = site.gate.preview(ASKED, TRAINED)
    assert preview.withheld is None and site.store.names("") == []
    assert preview.fields[2:] == (
        ("delta.b", 8, "float32[2]"),
        ("delta.w", 24, "float32[3, 2]"),
    )
    assert [name for name, *_ in preview.fields[:2]] == ["num_examples", "metrics.loss"]
    assert preview.changes == ("clip_norm 1", "metrics to 1 decimals")
    site.release()
    previewed, released = site.log.entries()
    assert (previewed.action, released.action) == ("previewed", "released")
    assert preview.bytes == released.details["bytes"]


def test_a_preview_says_why_it_would_stay(site):
    site.values["runs"] = []
    preview = site.gate.preview(ASKED, TRAINED)
    assert preview.withheld.code is Code.RUN_NOT_ALLOWED and len(preview.fields) == 4
    preview = site.gate.preview(ASKED, replace(TRAINED, num_examples=1))
    assert preview.withheld.code is Code.TOO_FEW_EXAMPLES and preview.fields == ()
    assert site.gate.preview(ASKED, Excuse(Code.WORK_FAILED)).withheld is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("run", "../up"), ("run", CANARY), ("purpose", CANARY), ("kind", CANARY)),
        *(("round", True), ("round", -1), ("round", 10**7), ("round", "1")),
        *(("key", "x"), ("plan", None), ("code", "C" * 64)),
    ],
)
def test_who_asks_is_checked_and_never_quoted(name, value):
    with pytest.raises(ValueError, match=rf"^{name}: ") as caught:
        replace(ASKED, **{name: value})
    assert CANARY not in str(caught.value)


def test_the_secret_is_not_shown(site):
    assert "\\x01\\x02" not in repr(site.gate) and "secret" not in repr(site.gate)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_policy_lets_more_out_than_asked_for(tmp_path_factory, data):
    """Whatever the rules: what is released obeys each of them."""
    site = Site(tmp_path_factory.mktemp("site"))
    site.values |= {
        "minimum_examples": data.draw(st.sampled_from([1, 50, 51])),
        "clip_norm": clip_norm
        if (clip_norm := data.draw(st.sampled_from([0, 0.5, 100.0])))
        else None,
        "metrics": data.draw(st.sampled_from([{"kind": "withhold"}, {"kind": "exact"}])),
        "jobs": data.draw(st.sampled_from([["train"], ["evaluate"], []])),
        "max_bytes": data.draw(st.sampled_from([100, 10**6])),
    }
    decision = site.release()
    if isinstance(decision, Withheld):
        assert site.actions() == ["withheld"] and site.store.names("") == []
        return
    assert "train" in site.values["jobs"] and site.values["minimum_examples"] <= 50
    assert decision.blob.size <= site.values["max_bytes"]
    assert bool(decision.metrics) == (site.values["metrics"]["kind"] == "exact")
    norm = np.sqrt(
        sum((one.astype(float) ** 2).sum() for one in site.store.get_arrays(decision.blob).values())
    )
    assert norm <= (clip_norm or np.inf)


def test_the_gate_of_a_folder_reads_its_files_each_time(tmp_path):
    data = {"kind": "heart_disease"}
    settings = SiteSettings.model_validate({"name": "north", "data": data, "mailbox": "memory://m"})
    folder = make_site(tmp_path / "north", settings, "")
    gate = open_gate(folder)
    assert gate.release(ASKED, TRAINED).code is Code.SITE_PAUSED
    resume(folder.status_file, folder.log)
    assert gate.release(ASKED, TRAINED).code is Code.RUN_NOT_ALLOWED
    (folder.path / "policy.yaml").write_text(yaml.safe_dump(ALLOWED))
    assert isinstance(gate.release(ASKED, TRAINED), Released)
    (folder.path / "policy.yaml").write_text("runs: [")
    assert gate.release(ASKED, TRAINED).code is Code.SITE_NOT_READY
    assert [entry.action for entry in folder.log.entries()] == [
        *("withheld", "resumed", "withheld", "released", "withheld"),
    ]
