"""What may pass the gate by its content, and what the gate changes in it; a canary never leaves."""

import os
from dataclasses import replace

import numpy as np
import pytest

from fedcore.audit.settings import AuditSettings
from fedcore.data.dataset import Dataset, Split
from fedcore.sites.audit_log import AuditLog
from fedcore.sites.codes import Code, code_of
from fedcore.sites.description import describe
from fedcore.sites.gate import Gate
from fedcore.sites.inquiry import Inquiry
from fedcore.sites.outgoing import (
    Asked,
    Counts,
    Delta,
    Excuse,
    Facts,
    Hashes,
    Identifiers,
    Measured,
    Numbers,
    Released,
    Withheld,
    Words,
)
from fedcore.sites.policy import Policy
from fedcore.sites.status import SiteStatus
from fedcore.store import Store
from fedcore.task import Task, TaskKind

CANARY = "Mrs Smith, 1951-03-02"
KEY, PLAN, CODE = "1" * 64, "a" * 64, "c" * 64
TEMPLATE = {"w": np.ones((3, 2), np.float32), "b": np.zeros(2, np.float32)}
ARRAYS = {"w": np.arange(6, dtype=np.float32).reshape(3, 2), "b": np.full(2, -1, np.float32)}
TRAINED = Delta(ARRAYS, TEMPLATE, 50, {"loss": 0.123456})
MEASURED = Measured(50, {"accuracy": 0.876543})
ASKED = Asked("heart-1", "heart-disease", "train", 1, KEY, PLAN, CODE)
ALLOWED = {
    "runs": ["*"],
    "purposes": ["*"],
    "jobs": ["train", "evaluate", "audit", "statistics", "prepare"],
    "approval": {"kind": "by_rule", "code": [CODE]},
    "metrics": {"kind": "exact"},
    "statistics": ["count", "mean", "names", "unit", "hash"],
    "answers_per_round": 100,
}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


class Site:
    """A gate of a site that allows everybody everything; a test narrows it."""

    def __init__(self, folder):
        self.log, self.store = AuditLog(folder / "log.jsonl"), Store(folder / "store")
        self.values = dict(ALLOWED)
        self.gate = Gate(
            policy=lambda: Policy.model_validate(self.values),
            status=lambda: SiteStatus("running"),
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


# -- only what has the shape -----------------------------------------------------------------------

NOT_A_DELTA = [
    {"w": ARRAYS["w"]},
    {**ARRAYS, CANARY: np.zeros(1, np.float32)},
    {**ARRAYS, "b": np.zeros((1, 2), np.float32)},
    {**ARRAYS, "b": np.zeros(2, np.float64)},
    {**ARRAYS, "b": np.array([np.nan, 0], np.float32)},
    {**ARRAYS, "b": np.array([np.inf, 0], np.float32)},
    {},
]


@pytest.mark.parametrize("arrays", NOT_A_DELTA)
def test_only_the_models_own_tensors_leave(site, arrays):
    decision = site.release(replace(TRAINED, arrays=arrays))
    assert decision.code is Code.NOT_DELTA_SHAPED and CANARY not in str(decision)
    assert CANARY not in site.log.path.read_text()


def test_whole_numbers_are_no_change_of_weights(site):
    counts = {"n": np.arange(3)}
    assert site.code(Delta(counts, counts, 50)) is Code.NOT_DELTA_SHAPED


@pytest.mark.parametrize("count", [True, 50.0, "50", -50, 9])
def test_the_number_of_examples_is_a_large_enough_whole_number(site, count):
    assert site.code(replace(TRAINED, num_examples=count)) is Code.TOO_FEW_EXAMPLES


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "0.5", None])
def test_quality_figures_are_finite_numbers(site, value):
    assert site.code(Measured(50, {"loss": value}), kind="evaluate") is Code.NOT_FINITE


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (MEASURED, "train"),
        (TRAINED, "evaluate"),
        (TRAINED, "statistics"),
        (Facts(), "train"),
        ({"rows": [CANARY]}, "audit"),
        (CANARY, "audit"),
        (None, "prepare"),
        (Excuse(CANARY), "train"),
    ],
)
def test_a_kind_of_work_gives_its_own_type_only(site, value, kind):
    assert site.code(value, kind=kind) is Code.WRONG_KIND
    assert CANARY not in site.log.path.read_text()


# -- what the gate changes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "found"),
    [
        ({"kind": "exact"}, 0.876543),
        ({"kind": "rounded", "decimals": 2}, 0.88),
        ({"kind": "rounded", "decimals": 0}, 1.0),
    ],
)
def test_quality_figures_leave_exact_or_rounded(site, metrics, found):
    site.values["metrics"] = metrics
    assert site.release(MEASURED, kind="evaluate").metrics == {"accuracy": found}


def test_quality_figures_that_are_withheld_leave_the_update_alone(site):
    site.values["metrics"] = {"kind": "withhold"}
    assert site.release().metrics == {}
    assert site.code(MEASURED, kind="evaluate") is Code.METRICS_WITHHELD


def test_clipping_and_noise_are_applied_and_stated(site):
    site.values |= {"clip_norm": 1.0, "noise_stddev": 0.01}
    site.values["metrics"] = {"kind": "rounded", "decimals": 1}
    left = site.store.get_arrays(site.release().blob)
    flat = np.concatenate([left[name].ravel() for name in ("b", "w")])
    before = np.concatenate([ARRAYS[name].ravel() for name in ("b", "w")])
    noise = flat - before / np.linalg.norm(before)
    assert 0 < abs(noise).max() < 0.06  # six standard deviations
    [entry] = site.log.entries()
    assert entry.details["changes"] == ["clip_norm 1", "metrics to 1 decimals", "noise_stddev 0.01"]


def test_noise_is_the_same_for_the_same_and_unrelated_for_anything_else(tmp_path):
    def noise(name, secret=bytes(32), arrays=TEMPLATE, stddev=1.0, **asked):
        (tmp_path / name).mkdir()
        site = Site(tmp_path / name)
        site.gate.secret = secret
        site.values |= {"clip_norm": 1e6, "noise_stddev": stddev}
        released = site.release(replace(TRAINED, arrays=arrays), **asked)
        left = site.store.get_arrays(released.blob)
        return (left["w"] - arrays["w"]) / stddev

    first = noise("first")
    assert np.array_equal(noise("same"), first)
    others = [
        noise("job", key=key(2)),
        noise("secret", secret=bytes([1]) * 32),
        noise("scale", stddev=2.0),
        noise("delta", arrays={**TEMPLATE, "b": np.full(2, 1e-3, np.float32)}),
    ]
    for other in others:
        assert abs(other - first).min() > 1e-3


# -- facts and excuses -----------------------------------------------------------------------------

FACTS = Facts(
    {
        "count": Counts((50, 0, 12)),
        "mean": Numbers((0.5, -2.0), group=62),
        "unit": Words(("mm",), frozenset({"mm", "kg"})),
        "hash": Hashes(("e" * 64,)),
    }
)


def test_statistics_leave_by_type(site):
    released = site.release(FACTS, kind="statistics", round=0)
    assert released.facts == {
        **{"count": [50, 0, 12], "mean": [0.5, -2.0]},
        **{"unit": ["mm"], "hash": ["e" * 64]},
    }
    assert site.release(FACTS, kind="statistics", round=0) == released


@pytest.mark.parametrize(
    ("name", "leaf", "code"),
    [
        ("count", Counts((50, 9)), Code.GROUP_TOO_SMALL),
        ("count", Counts((-1, 50)), Code.GROUP_TOO_SMALL),
        ("count", Counts((True, 50)), Code.GROUP_TOO_SMALL),
        ("mean", Numbers((1.0,), group=9), Code.GROUP_TOO_SMALL),
        ("mean", Numbers((1.0,), group=0), Code.GROUP_TOO_SMALL),
        ("mean", Numbers((float("nan"),), group=50), Code.NOT_FINITE),
        ("mean", Numbers((CANARY,), group=50), Code.NOT_FINITE),
        ("hash", Hashes((CANARY,)), Code.STATISTIC_NOT_ALLOWED),
        ("unit", Words((CANARY,), frozenset({"mm"})), Code.STATISTIC_NOT_ALLOWED),
        ("unit", CANARY, Code.STATISTIC_NOT_ALLOWED),
        ("names", Identifiers((7,)), Code.STATISTIC_NOT_ALLOWED),
        (CANARY, Counts((50,)), Code.STATISTIC_NOT_ALLOWED),
        ("median", Counts((50,)), Code.STATISTIC_NOT_ALLOWED),
    ],
)
def test_a_statistic_that_is_not_allowed_keeps_all_back(site, name, leaf, code):
    facts = Facts({**FACTS.fields, name: leaf})
    assert site.code(facts, kind="statistics") is code
    assert CANARY not in site.log.path.read_text() and site.store.names("") == []


def test_a_name_like_any_other_does_not_pass_a_wide_pattern(site):
    site.values["statistics"] = ["*"]
    assert site.code(Facts({CANARY: Counts((50,))}), kind="statistics") is (
        Code.STATISTIC_NOT_ALLOWED
    )


def test_a_group_at_the_bound_leaves(site):
    site.values["minimum_group"] = 12
    assert site.code(FACTS, kind="statistics") is None
    site.values["minimum_group"] = 13
    assert site.code(FACTS, kind="statistics", key=key(2)) is Code.GROUP_TOO_SMALL


def test_identifiers_are_fingerprints_of_their_run_or_plain(site):
    facts = Facts({"names": Identifiers((CANARY, "b"))})
    first = site.release(facts, kind="statistics").facts["names"]
    other = site.release(facts, kind="statistics", run="heart-2").facts["names"]
    assert CANARY not in str(first) and len({*first, *other}) == 4
    assert site.release(facts, kind="statistics", key=key(2)).facts["names"] == first
    site.values["identifiers"] = "plain"
    assert site.release(facts, kind="statistics", key=key(3)).facts["names"] == [CANARY, "b"]
    assert CANARY not in site.log.path.read_text()


def test_an_exception_leaves_as_a_code(site):
    for error in (ValueError(CANARY), KeyError(CANARY), OSError(28, CANARY), MemoryError(CANARY)):
        released = site.release(Excuse(code_of(error)))
        assert released == Released(code=code_of(error).value) and CANARY not in str(released)
    assert {code_of(OSError(28, "")), code_of(MemoryError())} == {
        *(Code.MACHINE_TROUBLE, Code.OUT_OF_MEMORY),
    }
    assert set(site.actions()) == {"excused"} and CANARY not in site.log.path.read_text()
    assert site.store.names("") == []


def test_why_something_stays_can_be_told(site):
    withheld = site.release(replace(TRAINED, num_examples=3))
    assert site.release(Excuse(withheld.code)).code == "too_few_examples"


# -- the description of a site's data --------------------------------------------------------------


def described():
    """Seven training rows, two of label 0 and five of label 1, and two test rows."""
    inputs = np.arange(18, dtype=np.float32).reshape(9, 2)
    targets = np.array([0, 0, 1, 1, 1, 1, 1, 0, 1])
    splits = {"train": Split(inputs[:7], targets[:7]), "test": Split(inputs[7:], targets[7:])}
    task = Task(TaskKind.BINARY, ("no", "yes"))
    dataset = Dataset("tiny", task, splits, {"kind": "table", "names": ["x", "y"]})
    inquiry = Inquiry(AuditSettings(), "federation", "07" * 32)
    return describe(dataset, "north", inquiry, secret=bytes(32))


def test_a_description_leaves_whole_or_not_at_all(site):
    said = described()
    assert said.labels == {"train": (2, 5), "test": (1, 1)}
    site.values["minimum_group"] = 1
    assert site.release(said, kind="audit", round=0).facts == said.to_json()
    [entry] = site.log.entries()
    assert {"facts.labels", "facts.moments"} <= {*entry.details["fields"]}
    site.values["minimum_group"] = 2
    assert site.code(said, kind="audit", key=key(2)) is Code.GROUP_TOO_SMALL
    none = replace(said, labels={**said.labels, "test": (0, 2)})
    assert site.code(none, kind="audit", key=key(2)) is None


@pytest.mark.parametrize(
    "changes", [{"dataset": CANARY}, {"names": {"train": CANARY}}, {"features": {"kind": CANARY}}]
)
def test_a_description_has_its_schema(site, changes):
    site.values["minimum_group"] = 1
    decision = site.release(replace(described(), **changes), kind="audit")
    assert decision.code is Code.NOT_A_DESCRIPTION and CANARY not in str(decision)
    assert CANARY not in site.log.path.read_text()
