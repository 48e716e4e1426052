"""What a site says of its data, read strictly; and its samples under names."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fedcore.audit.settings import AuditSettings
from fedcore.data.dataset import Dataset, Split
from fedcore.data.text_bytes import pack
from fedcore.models.preprocess import TablePreprocess
from fedcore.moments import moments
from fedcore.refs import Ref
from fedcore.sites.description import describe, read_description
from fedcore.sites.holding import NotHeld, Shelf, prepare_data
from fedcore.sites.inquiry import Inquiry, Preparation, read_inquiry, read_preparation
from fedcore.sites.refusal import Refusal
from fedcore.store import Store
from fedcore.task import TEXTS, Task, TaskKind

SALT, SECRET = "07" * 32, b"s" * 32
INQUIRY = Inquiry(AuditSettings(), "federation", SALT)
RNG = np.random.default_rng(0)


def texts(size, most=80):
    """A site's texts, all different."""
    inputs = pack([f"note {at} of the site" for at in range(size + 2)], most)
    targets = np.arange(size + 2) % 2
    cut = {"train": slice(size), "test": slice(size, None)}
    splits = {split: Split(inputs[at], targets[at]) for split, at in cut.items()}
    features = {"kind": "text", "most_bytes": most}
    return Dataset("tiny", Task(TaskKind.BINARY, ("no", "yes")), splits, features)


def to_be_written(size):
    """The same, without a label."""
    given = texts(size)
    splits = {n: replace(s, targets=np.zeros_like(s.targets)) for n, s in given.splits.items()}
    features = {**given.features, "prompted": True}
    return replace(given, task=Task(TaskKind.LANGUAGE, TEXTS), splits=splits, features=features)


def of(kind, targets, labels=("no", "yes"), images=False):
    size = len(targets)
    inputs = RNG.normal(size=(size, 2)).astype(np.float32)
    features = {"kind": "table", "names": ["x", "y"]}
    if images:
        inputs = RNG.integers(0, 256, (size, 4, 4, 1), dtype=np.uint8)
        features = {"kind": "image", "shape": [4, 4, 1]}
    splits = {"train": Split(inputs, targets), "test": Split(inputs[:2] // 2 + 1, targets[:2])}
    return Dataset("tiny", Task(kind, labels), splits, features)


BINARY = of(TaskKind.BINARY, np.array([0, 1, 1, 1, 0, 1]))
SAID = describe(BINARY, "north", INQUIRY, secret=SECRET)


@pytest.mark.parametrize(
    ("dataset", "labels"),
    [
        (BINARY, (2, 4)),
        (of(TaskKind.BINARY, np.array([0, 1, 0, 0]), images=True), (3, 1)),
        (texts(5), (3, 2)),
        (to_be_written(5), (5,)),
        (of(TaskKind.MULTILABEL, np.array([[1, 1], [0, 1], [0, 0]])), (1, 2)),
        (of(TaskKind.REGRESSION, np.float32([0.5, 2.0, -1.0]), ("mmHg",)), ()),
    ],
)
def test_there_and_back(dataset, labels):
    said = describe(dataset, "north", INQUIRY, secret=SECRET)
    assert said.train_labels == labels == said.labels["train"]
    text = json.dumps(said.to_json())
    assert read_description(json.loads(text), "north") == said
    assert (said.moments is None) == (dataset.kind != "table")
    assert said.sizes == {"train": len(dataset.splits["train"]), "test": 2}


def test_moments_only_where_all_are_scaled_alike_and_of_the_rows_that_take_part():
    assert SAID.moments == moments(BINARY.splits["train"].inputs)
    for scope in ("client", "none"):
        assert (
            describe(BINARY, "north", replace(INQUIRY, standardise=scope), secret=SECRET).moments
            is None
        )
    rules = AuditSettings(remedy="drop-from-train")
    train = BINARY.splits["train"]
    leaky = replace(BINARY, splits={**BINARY.splits, "test": train.take(np.array([3]))})
    said = describe(leaky, "north", replace(INQUIRY, audit=rules), secret=SECRET)
    assert said.moments == moments(np.delete(train.inputs, 3, axis=0))
    assert said.dropped == {"train": 1} and said.labels["train"] == (2, 4)
    assert said.train_labels == (2, 3)


def test_no_value_of_the_rows_is_in_it():
    train = replace(BINARY.splits["train"], inputs=np.full((6, 2), 1234.5, np.float32))
    canary = replace(BINARY, splits={"train": train})
    asked = replace(INQUIRY, standardise="client")
    text = json.dumps(describe(canary, "north", asked, secret=SECRET).to_json())
    assert "1234.5" not in text and canary.fingerprint not in text


def changed(**fields):
    return {**SAID.to_json(), **fields}


def finding(**fields):
    return {"check": "values", "severity": "error", "splits": [], "count": 1, **fields}


def moments_of(**fields):
    value = {"count": 6, "mean": [0.0, 0.0], "squares": [1.0, 1.0], **fields}
    return changed(moments=value)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (None, "description"),
        ([], "description"),
        ({**SAID.to_json(), "CANARY": 1}, "description"),
        ({k: v for k, v in SAID.to_json().items() if k != "sizes"}, "sizes"),
        (changed(client="south"), "client"),
        (changed(client=7), "client"),
        (changed(dataset="CANARY CANARY"), "dataset"),
        (changed(task={"kind": "binary", "labels": ["CANARY"]}), "task"),
        (changed(task={"kind": "CANARY", "labels": ["a", "b"]}), "task"),
        (changed(features={"kind": "CANARY"}), "features"),
        (changed(features={"kind": "table", "names": ["CANARY"]}), "features"),
        (changed(features={"kind": "image", "shape": [2]}), "features"),
        (changed(features={"kind": ["table"]}), "features"),
        (changed(features={"kind": "text"}), "features"),
        (changed(features={"kind": "text", "most_bytes": 3}), "features"),
        (changed(features={"kind": "text", "most_bytes": 2.0}), "features"),
        (changed(input_shape=[2, 10**9]), "input_shape"),
        (changed(input_shape=[True]), "input_shape"),
        (changed(input_shape=[]), "input_shape"),
        (changed(sizes={"train": 0, "test": 2}), "sizes"),
        (changed(sizes={"train": 6.0, "test": 2}), "sizes"),
        (changed(sizes={"train": "6", "test": 2}), "sizes"),
        (changed(sizes={"test": 2}), "sizes"),
        (changed(sizes={"train": 7, "test": 2}), "samples"),
        (changed(sizes={"train": 6, "CANARY": 2}), "sizes"),
        (changed(dropped={"test": 1}), "dropped"),
        (changed(dropped={"val": 1}), "labels"),
        (changed(labels={"train": [3, 4], "test": [1, 1]}), "labels"),
        (changed(labels={"train": [2, 4, 0], "test": [1, 1]}), "labels"),
        (changed(labels={"train": [2, -4], "test": [1, 1]}), "labels"),
        (changed(train_labels=[6, 6]), "train_labels"),
        (changed(names={**SAID.names, "test": "CANARY"}), "names"),
        (changed(names={"train": "0" * 64}), "names"),
        (changed(samples={**SAID.samples, "test": ["0" * 32]}), "samples"),
        (changed(samples={**SAID.samples, "test": ["f" * 32, "0" * 32]}), "samples"),
        (changed(samples={**SAID.samples, "test": ["0" * 31 + "\n"] * 2}), "samples"),
        (changed(findings=[finding(check="CANARY")]), "findings"),
        (changed(findings=[finding()] * 101), "findings"),
        (moments_of(count=5), "moments"),
        (moments_of(mean=[0.0], squares=[1.0]), "moments"),
        (moments_of(squares=[1.0, -1.0]), "moments"),
        (moments_of(mean=[0.0, float("nan")]), "description"),
        (moments_of(CANARY=1), "description"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_field(value, field):
    with pytest.raises(Refusal, match=f"^schema: {field}$") as caught:
        read_description(value, "north")
    assert "CANARY" not in str(caught.value) and caught.value.__cause__ is None


def test_inquiries_and_preparations_there_and_back():
    inquiry = replace(INQUIRY, drop={"train": ("0" * 32,)})
    assert read_inquiry(json.loads(json.dumps(inquiry.to_json()))) == inquiry
    for scaling in (None, "own", TablePreprocess(), TablePreprocess((1.0,), (2.0,))):
        value = Preparation(inquiry, scaling)
        assert read_preparation(json.loads(json.dumps(value.to_json()))) == value


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"audit": {"remedy": "CANARY"}}, "audit"),
        ({"standardise": "CANARY"}, "standardise"),
        ({"standardise": []}, "standardise"),
        ({"salt": "07"}, "salt"),
        ({"drop": {"test": []}}, "drop"),
        ({"drop": {"train": "0" * 32}}, "drop"),
        ({"drop": {"train": ["CANARY"]}}, "drop"),
        ({"more": 1}, "inquiry"),
    ],
)
def test_an_inquiry_that_does_not_fit(change, field):
    with pytest.raises(Refusal, match=f"^schema: {field}$"):
        read_inquiry({**INQUIRY.to_json(), **change})


@pytest.mark.parametrize(
    "scaling",
    ["mine", 1, [], {"kind": "image"}, {"kind": "table", "mean": [1], "std": [1.0]},
     {"kind": "table", "mean": [1.0], "std": [0.0]}, {"kind": "table", "mean": [1.0], "std": []}],
)  # fmt: skip
def test_a_scaling_that_does_not_fit(scaling):
    with pytest.raises(Refusal, match=r"^schema: scaling$"):
        read_preparation({"inquiry": INQUIRY.to_json(), "scaling": scaling})


def test_samples_are_found_by_name_and_only_by_a_name(tmp_path):
    shelf = Shelf(Store(tmp_path))
    scaling = TablePreprocess((1.0, 2.0), (2.0, 4.0))
    held = prepare_data(BINARY, "north", Preparation(INQUIRY, scaling), secret=SECRET, shelf=shelf)
    assert held.sizes["train"] == len(BINARY.splits["train"].targets)
    ref = Shelf(Store(tmp_path)).resolve(held.blobs["train"].digest)  # as after a restart
    arrays = shelf.store.get_arrays(ref)
    expected = (BINARY.splits["train"].inputs - np.float32([1, 2])) / np.float32([2, 4])
    np.testing.assert_array_equal(arrays["inputs"], expected)
    np.testing.assert_array_equal(arrays["targets"], BINARY.splits["train"].targets)
    with pytest.raises(NotHeld, match=r"no data named 000000000000\.\.\. were prepared here"):
        shelf.resolve("0" * 64)
    for name in ("../" * 21 + "x", "", "A" * 64, "0" * 64 + "\n"):
        with pytest.raises(ValueError, match=f"data name of {len(name)} characters"):
            shelf.resolve(name)
        with pytest.raises(ValueError, match="it needs 64 hex digits"):
            shelf.put(name, Ref("0" * 64, 1, "shard"))


def test_texts_are_kept_as_they_are(tmp_path):
    shelf, dataset = Shelf(Store(tmp_path)), texts(6)
    held = prepare_data(dataset, "north", Preparation(INQUIRY, None), secret=SECRET, shelf=shelf)
    kept = shelf.store.get_arrays(shelf.resolve(held.blobs["train"].digest))["inputs"]
    assert np.array_equal(kept, dataset.splits["train"].inputs)
    with pytest.raises(ValueError, match="scaling='own' is not for texts"):
        prepare_data(dataset, "north", Preparation(INQUIRY, "own"), secret=SECRET, shelf=shelf)


def test_a_plan_of_other_data_is_not_prepared(tmp_path):
    shelf = Shelf(Store(tmp_path))
    with pytest.raises(ValueError, match="scaling=None is not for tables"):
        prepare_data(BINARY, "north", Preparation(INQUIRY, None), secret=SECRET, shelf=shelf)
    with pytest.raises(ValueError, match="no table of 1 columns"):
        how = Preparation(INQUIRY, TablePreprocess((0.0,), (1.0,)))
        prepare_data(BINARY, "north", how, secret=SECRET, shelf=shelf)
