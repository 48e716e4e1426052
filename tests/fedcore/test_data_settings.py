"""The union of data sources: its members, its default, plug-ins, and laws that hold for all."""

from importlib.metadata import EntryPoint
from typing import get_args

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from fedcore import settings as base
from fedcore.data.dataset import Dataset, Split
from fedcore.data.encoding import TableEncoding
from fedcore.data.settings import BreastCancer, DataPlugin, DataSettings, Digits
from fedcore.task import Task, TaskKind

ADAPTER = TypeAdapter(DataSettings)
MEMBERS = get_args(get_args(DataSettings)[0])


def one_pixel(folder, *, count=4):
    """A source as a plug-in package would provide it."""
    images = np.zeros((count, 1, 1, 1), np.uint8)
    splits = {"train": Split(images, np.arange(count) % 2)}
    return Dataset(
        "pixel",
        Task(TaskKind.BINARY, ("no", "yes")),
        splits,
        {"kind": "image", "shape": [1, 1, 1]},
        {"folder": folder},
    )


@pytest.fixture
def installed(monkeypatch):
    """Entry points ``pixel`` and ``wrong`` as if a package declared them."""
    here = {
        "pixel": EntryPoint("pixel", "x", "fedloom.data"),
        "wrong": EntryPoint("wrong", "x", "fedloom.data"),
    }
    loaded = {"pixel": one_pixel, "wrong": lambda folder: 7}
    monkeypatch.setattr(base, "entry_points", lambda group: here.values())
    monkeypatch.setattr(EntryPoint, "load", lambda self: loaded[self.name])


def test_kinds():
    kinds = [member.model_fields["kind"].default for member in MEMBERS]
    assert kinds == [
        "digits",
        "breast_cancer",
        "medmnist",
        "mnist",
        "fashion_mnist",
        "cifar10",
        "heart_disease",
        "medical_abstracts",
        "newsgroups",
        "table",
        "text",
        "arrays",
        "image_folder",
        "plugin",
    ]


def test_every_field_says_what_it_is():
    for member in MEMBERS:
        for name, field in member.model_fields.items():
            assert name == "kind" or field.description, f"{member.__name__}.{name}"
        assert callable(member.load)


def test_unknown_kind_lists_those_that_exist():
    with pytest.raises(ValidationError, match=r"'digitz' .* expected tags: 'digits', .*'plugin'"):
        ADAPTER.validate_python({"kind": "digitz"})


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"kind": "digits", "limits": 3}, "limits"),
        ({"kind": "digits", "limit": 0}, "limit"),
        ({"kind": "mnist", "val_fraction": 0.9}, "val_fraction"),
        ({"kind": "medmnist", "name": "organmnist3d"}, "name"),
        ({"kind": "table"}, "path"),
        ({"kind": "text"}, "path"),
        ({"kind": "medical_abstracts", "fold": 5}, "fold"),
        ({"kind": "newsgroups", "remove": ["names"]}, "remove"),
        ({"kind": "image_folder", "path": "x", "channels": 2}, "channels"),
    ],
)
def test_bad_values_name_the_field(values, where):
    with pytest.raises(ValidationError, match=where):
        ADAPTER.validate_python(values)


def test_json_round_trip():
    table = {"kind": "table", "path": "a.csv", "label": "y", "numeric": ["x"]}
    for values in ({"kind": "digits"}, {"kind": "medmnist", "limit": 9}, table):
        settings = ADAPTER.validate_python(values)
        assert ADAPTER.validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("settings", "sizes", "columns"),
    [
        (Digits(), {"train": 1294, "val": 144, "test": 359}, 64),
        (BreastCancer(), {"train": 409, "val": 46, "test": 114}, 30),
        (Digits(limit=10), {"train": 10, "val": 10, "test": 10}, 64),
        (Digits(val_fraction=0, test_fraction=0), {"train": 1797}, 64),
    ],
)
def test_tables_of_scikit_learn(settings, sizes, columns):
    dataset = settings.load(None)
    assert {split: len(part) for split, part in dataset.splits.items()} == sizes
    assert dataset.provenance["declared"] == sizes
    assert dataset.splits["train"].inputs.shape[1] == len(dataset.features["names"]) == columns
    assert dataset.splits["train"].inputs.dtype == np.float32
    assert dataset.fingerprint == settings.load(None).fingerprint


def test_tables_of_scikit_learn_are_stratified():
    dataset = Digits().load(None)
    for part in dataset.splits.values():
        share = np.bincount(part.targets) / len(part)
        assert np.abs(share - 0.1).max() < 0.02


def test_features_encode_a_raw_frame():
    import pandas as pd

    dataset = BreastCancer().load(None)
    encoding = TableEncoding.from_json(dataset.features["encoding"])
    rows = dataset.splits["val"].inputs
    frame = pd.DataFrame(rows, columns=list(encoding.columns))
    assert np.array_equal(encoding.encode(frame), rows)
    assert dataset.task.labels == ("malignant", "benign")


def test_plugin(installed, tmp_path):
    settings = ADAPTER.validate_python({"kind": "plugin", "name": "pixel", "options": {"count": 6}})
    dataset = settings.load(tmp_path)
    assert len(dataset.splits["train"]) == 6
    assert dataset.provenance["folder"] == tmp_path


def test_plugin_that_is_not_there_or_not_a_data_set(installed):
    with pytest.raises(ValueError, match=r"name='other'.*'fedloom.data'; installed: pixel, wrong"):
        DataPlugin(name="other").load()
    with pytest.raises(ValueError, match=r"name='wrong' returned int"):
        DataPlugin(name="wrong").load()
