"""As Hugging Face data sets: pixels, texts, labels and label maps survive."""

import json

import numpy as np
import pytest

from fedcore.data.dataset import Split
from fedcore.data.huggingface import label_maps, to_huggingface
from fedcore.data.text_bytes import pack
from fedcore.task import Task, TaskKind

BINARY = Task(TaskKind.BINARY, ("normal", "pneumonia"))


def images(count, channels):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 9, 8, channels)).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_and_labels_survive(channels):
    split = Split(images(5, channels), np.array([0, 1, 1, 0, 1]), np.array(list("aabbb")))
    dataset = to_huggingface(split, BINARY)
    assert dataset.column_names == ["image", "label", "owner"]
    shown = np.stack([np.asarray(row["image"]) for row in dataset])
    assert np.array_equal(shown.reshape(split.inputs.shape), split.inputs)
    assert dataset["label"][:] == split.targets.tolist()
    assert dataset["owner"][:] == list("aabbb")
    assert dataset.features["label"].names == ["normal", "pneumonia"]
    assert dataset.features["label"].int2str(1) == "pneumonia"
    assert Task.from_json(json.loads(dataset.info.description)) == BINARY


@pytest.mark.parametrize(
    ("task", "targets"),
    [
        (Task(TaskKind.ORDINAL, ("0", "1", "2")), np.array([2, 0])),
        (Task(TaskKind.MULTILABEL, ("a", "b", "c")), np.array([[1, 0, 1], [0, 0, 0]])),
        (Task(TaskKind.REGRESSION, ("age",)), np.array([0.5, 2.25], np.float32)),
    ],
)
def test_other_tasks(task, targets):
    dataset = to_huggingface(Split(images(2, 1), targets), task)
    assert dataset.column_names == ["image", "label"]
    assert dataset["label"][:] == targets.tolist()


def test_texts_survive():
    texts = ["na\u00efve", "", "two words"]
    dataset = to_huggingface(Split(pack(texts, 20), np.array([0, 1, 1])), BINARY)
    assert dataset.column_names == ["text", "label"]
    assert dataset["text"][:] == texts


def test_label_maps():
    assert label_maps(BINARY)["label2id"] == {"normal": 0, "pneumonia": 1}


def test_tables_are_refused():
    table = Split(np.zeros((2, 3), np.float32), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"inputs are float32 \(2, 3\): only images"):
        to_huggingface(table, BINARY)
