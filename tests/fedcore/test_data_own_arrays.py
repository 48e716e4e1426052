"""A user's own npz archive: images and tables of numbers, or a clear refusal."""

import numpy as np
import pytest
from pydantic import ValidationError

from fedcore.data.arrays import Arrays
from fedcore.task import TaskKind

NONE = {"test_fraction": 0, "val_fraction": 0}
ONE = {"path": "own.npz", "inputs": "x", "targets": "y"}


def save(folder, **arrays):
    np.savez(folder / "own.npz", **arrays)
    return folder


def pictures(count, *shape):
    return np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.uint8)


@pytest.mark.parametrize(("shape", "channels"), [((6, 5), 1), ((6, 5, 1), 1), ((6, 5, 3), 3)])
def test_images_per_split(tmp_path, shape, channels):
    arrays = {}
    for split, count in (("train", 20), ("test", 4)):
        arrays[f"{split}_images"] = pictures(count, *shape)
        arrays[f"{split}_labels"] = np.arange(count)[:, None] % 3
        arrays[f"{split}_site"] = np.array(["a", "b"])[np.arange(count) % 2]
    dataset = Arrays(path="own.npz", owner="{split}_site").load(save(tmp_path, **arrays))
    assert dataset.features == {"kind": "image", "shape": [6, 5, channels]}
    assert dataset.task.labels == ("0", "1", "2")
    assert {split: len(part) for split, part in dataset.splits.items()} == {
        "train": 18,
        "val": 2,
        "test": 4,
    }
    test = dataset.splits["test"]
    assert np.array_equal(test.inputs.reshape(4, -1), arrays["test_images"].reshape(4, -1))
    assert test.targets.tolist() == [0, 1, 2, 0]
    assert test.owners.tolist() == ["a", "b", "a", "b"]


def test_table_of_numbers_with_split_array(tmp_path):
    numbers = np.arange(12.0).reshape(6, 2)
    parts = np.array(["train"] * 4 + ["test", "val"])
    folder = save(tmp_path, x=numbers, y=np.arange(6) % 2, part=parts)
    dataset = Arrays(**ONE, task="binary", split="part", columns=("age", "bmi")).load(folder)
    assert [len(part) for part in dataset.splits.values()] == [4, 1, 1]
    assert dataset.features["names"] == ["age", "bmi"]
    assert dataset.splits["val"].inputs.tolist() == [[10, 11]]
    assert dataset.splits["val"].inputs.dtype == np.float32


@pytest.mark.parametrize(
    ("task", "targets", "labels"),
    [
        ("regression", np.linspace(0, 1, 8), ("quantity",)),
        ("multilabel", np.eye(8, 3, dtype=np.int64), ("0", "1", "2")),
        ("ordinal", np.arange(8) % 4, ("0", "1", "2", "3")),
        ("binary", np.zeros(8, bool), ("0", "1")),
    ],
)
def test_tasks(tmp_path, task, targets, labels):
    folder = save(tmp_path, x=pictures(8, 4, 4), y=targets)
    dataset = Arrays(**ONE, **NONE, task=task).load(folder)
    assert dataset.task.kind is TaskKind(task)
    assert dataset.task.labels == labels
    assert np.allclose(dataset.splits["train"].targets, targets)


def test_limit_and_declared(tmp_path):
    folder = save(tmp_path, x=pictures(8, 4, 4), y=np.arange(8) % 2)
    dataset = Arrays(**ONE, **NONE, limit=3, declared={"train": 8}).load(folder)
    assert len(dataset.splits["train"]) == 3
    assert dataset.provenance["declared"] == {"train": 3}


GOOD = {"x": pictures(4, 4, 4), "y": np.array([0, 1, 0, 1])}


@pytest.mark.parametrize(
    ("settings", "arrays", "message"),
    [
        ({}, {"x": pictures(4, 4, 4) / 255}, r"'x' is float64 \(4, 4, 4\).*scale to 0..255"),
        ({}, {"x": pictures(4, 4, 4, 2)}, r"'x' is uint8 \(4, 4, 4, 2\)"),
        ({}, {"x": np.array([[1.0], [np.nan], [0], [0]])}, "holds nan in row 1, column 0"),
        ({}, {"x": np.array([{}] * 4)}, "never unpickled"),
        ({}, {"y": np.array([0, 1, 0])}, r"'y' has shape \(3,\) beside inputs"),
        ({}, {"y": np.eye(4, dtype=int)}, r"'y' has shape \(4, 4\) beside"),
        ({}, {"y": np.array([0.0, 1.0, 0, 1])}, r"'y' \(float64\) must hold label indices"),
        ({}, {"y": np.array([0, -1, 0, 1])}, "whole numbers from 0"),
        ({"labels": ("a", "b")}, {"y": np.array([0, 2, 0, 1])}, "up to 2; .* has 0 to 1"),
        ({"task": "binary"}, {"y": np.array([0, 2, 0, 1])}, "up to 2; a binary task"),
        ({"task": "regression"}, {"y": np.array([0, np.inf, 0, 1])}, "must hold finite numbers"),
        ({"task": "multilabel"}, {"y": np.full((4, 2), 2)}, "needs a 0/1 column each"),
        ({"columns": ("a",)}, {"x": np.zeros((4, 2))}, "names 1, array 'x' has 2"),
        ({"targets": "z"}, {}, r"has no array 'z'; it has \['x', 'y'\]"),
        ({"split": "part"}, {"part": np.array(["train"])}, r"'part' has shape \(1,\)"),
        ({"owner": "who"}, {"who": np.array(["a", "b"])}, r"and owners \(2,\)"),
        ({"owner": "who"}, {"who": np.array(["a", "", "b", "c"])}, "owner='' cannot be the id"),
    ],
)
def test_arrays_unlike_their_description_are_refused(tmp_path, settings, arrays, message):
    folder = save(tmp_path, **GOOD | arrays)
    with pytest.raises(ValueError, match=message):
        Arrays(**ONE | settings).load(folder)


def test_splits_of_other_shape_are_refused(tmp_path):
    folder = save(
        tmp_path,
        train_images=pictures(4, 4, 4),
        train_labels=np.arange(4) % 2,
        val_images=pictures(4, 4, 5),
        val_labels=np.arange(4) % 2,
    )
    with pytest.raises(ValueError, match=r"inputs differ in shape: \[\(4, 4, 1\), \(4, 5, 1\)\]"):
        Arrays(path="own.npz").load(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "a.npz", "targets": "y"}, "either every array's name holds"),
        ({"path": "a.npz", "split": "part"}, "use one way"),
    ],
)
def test_senseless_settings_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Arrays(**settings)
