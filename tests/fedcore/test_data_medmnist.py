"""MedMNIST: the official files where they are, files of the same format for all the others."""

import subprocess
import sys
from typing import get_args

import numpy as np
import pytest

from fedcore.data.checksum import ChecksumMismatch, md5_of
from fedcore.data.download import DataNotFound
from fedcore.data.medmnist import MedMNIST, Name, catalogue, task_of
from fedcore.task import TaskKind

NAMES = get_args(Name)


def make_official(monkeypatch, folder, name, *, num=7, size=28, **changes):
    """A tiny file of the official format, its checksum and sizes put into the catalogue."""
    info = catalogue()[name]
    rng = np.random.default_rng(0)
    shape = (size, size) if info["n_channels"] == 1 else (size, size, 3)
    task = task_of(info)
    arrays = {}
    for number, split in enumerate(("train", "val", "test")):
        count = num + number
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, *shape)).astype(np.uint8)
        multilabel = task.kind is TaskKind.MULTILABEL
        labels = rng.integers(0, 2 if multilabel else len(task.labels), (count, 1))
        if multilabel:
            labels = rng.integers(0, 2, (count, len(task.labels)))
        arrays[f"{split}_labels"] = labels.astype(np.uint8)
    arrays |= changes
    suffix = "" if size == 28 else f"_{size}"
    path = folder / "medmnist" / f"{name}{suffix}.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **arrays)
    sizes = {"train": num, "val": num + 1, "test": num + 2}
    patched = info | {f"MD5{suffix}": md5_of(path), "n_samples": sizes}
    monkeypatch.setitem(catalogue(), name, patched)
    return arrays


def test_all_two_dimensional_sets_are_offered():
    flat = {name for name in catalogue() if not name.endswith("3d")}
    assert set(NAMES) == flat
    assert len(NAMES) == 12


@pytest.mark.parametrize("name", NAMES)
def test_every_set_loads(monkeypatch, tmp_path, name):
    arrays = make_official(monkeypatch, tmp_path, name)
    dataset = MedMNIST(name=name).load(tmp_path)
    channels = catalogue()[name]["n_channels"]
    assert dataset.name == name
    assert dataset.kind == "image"
    assert dataset.features["shape"] == [28, 28, channels]
    assert {split: len(part) for split, part in dataset.splits.items()} == {
        "train": 7,
        "val": 8,
        "test": 9,
    }
    assert dataset.provenance["declared"] == {"train": 7, "val": 8, "test": 9}
    for split, part in dataset.splits.items():
        assert part.inputs.shape[1:] == (28, 28, channels)
        assert part.inputs.dtype == np.uint8
        assert part.targets.dtype == np.int64
        assert np.array_equal(
            part.inputs.reshape(len(part), -1), arrays[f"{split}_images"].reshape(len(part), -1)
        )
        assert np.array_equal(
            part.targets.reshape(len(part), -1), arrays[f"{split}_labels"].astype(np.int64)
        )


@pytest.mark.parametrize(
    ("name", "kind", "num_labels"),
    [
        ("pneumoniamnist", TaskKind.BINARY, 2),
        ("bloodmnist", TaskKind.MULTICLASS, 8),
        ("dermamnist", TaskKind.MULTICLASS, 7),
        ("pathmnist", TaskKind.MULTICLASS, 9),
        ("retinamnist", TaskKind.ORDINAL, 5),
        ("chestmnist", TaskKind.MULTILABEL, 14),
        ("organamnist", TaskKind.MULTICLASS, 11),
    ],
)
def test_tasks(name, kind, num_labels):
    task = task_of(catalogue()[name])
    assert (task.kind, len(task.labels)) == (kind, num_labels)


def test_labels_are_in_order_of_index():
    assert task_of(catalogue()["pneumoniamnist"]).labels == ("normal", "pneumonia")
    assert task_of(catalogue()["organamnist"]).labels[10] == "spleen"


@pytest.mark.parametrize(
    ("name", "sizes", "positives"),
    [("breastmnist", (546, 78, 156), 399), ("pneumoniamnist", (4708, 524, 624), 3494)],
)
def test_official_files(fedloom_data, name, sizes, positives):
    dataset = MedMNIST(name=name, download=False).load(fedloom_data)
    assert tuple(len(part) for part in dataset.splits.values()) == sizes
    assert tuple(dataset.provenance["declared"].values()) == sizes
    assert int(dataset.splits["train"].targets.sum()) == positives  # fixed by the official checksum
    assert dataset.provenance["files"][0]["md5"] == catalogue()[name]["MD5"]
    assert dataset.provenance["licence"] == "CC BY 4.0"


def test_limit_keeps_the_first_and_tells_the_audit(monkeypatch, tmp_path):
    arrays = make_official(monkeypatch, tmp_path, "bloodmnist")
    dataset = MedMNIST(name="bloodmnist", limit=3).load(tmp_path)
    assert dataset.provenance["declared"] == {"train": 3, "val": 3, "test": 3}
    assert np.array_equal(dataset.splits["val"].inputs, arrays["val_images"][:3])


def test_larger_images(monkeypatch, tmp_path):
    make_official(monkeypatch, tmp_path, "bloodmnist", size=64)
    dataset = MedMNIST(name="bloodmnist", size=64).load(tmp_path)
    assert dataset.name == "bloodmnist_64"
    assert dataset.features["shape"] == [64, 64, 3]


def test_altered_file_is_refused(monkeypatch, tmp_path):
    make_official(monkeypatch, tmp_path, "breastmnist")
    path = tmp_path / "medmnist" / "breastmnist.npz"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    official = catalogue()["breastmnist"]["MD5"]
    with pytest.raises(ChecksumMismatch, match=f"breastmnist.npz has md5 .* publishes {official}"):
        MedMNIST(name="breastmnist").load(tmp_path)


def test_no_file_names_folders_searched(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(
        DataNotFound, match=r"pathmnist.npz was not found in .*medmnist.*\.medmnist"
    ):
        MedMNIST(name="pathmnist", download=False).load(tmp_path)


def test_own_folder_of_medmnist_is_searched(tmp_path, monkeypatch):
    make_official(monkeypatch, tmp_path, "breastmnist")
    (tmp_path / "medmnist").rename(tmp_path / ".medmnist")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(MedMNIST(name="breastmnist", download=False).load(None).splits["train"]) == 7


@pytest.mark.parametrize(
    "changes",
    [
        {"train_images": np.zeros((7, 28, 28), np.float32)},
        {"train_images": np.zeros((7, 28, 27), np.uint8)},
        {"val_labels": np.zeros((7, 1), np.uint8)},
        {"test_labels": np.zeros(9, np.uint8)},
        {"test_labels": np.zeros((9, 2), np.uint8)},
    ],
)
def test_other_contents_are_refused(monkeypatch, tmp_path, changes):
    make_official(monkeypatch, tmp_path, "breastmnist", **changes)
    with pytest.raises(ValueError, match=r"breastmnist.npz: \w+ has images .* expected uint8"):
        MedMNIST(name="breastmnist").load(tmp_path)


def test_catalogue_needs_neither_torch_nor_torchvision():
    code = (
        "import sys; from fedcore.data.medmnist import catalogue; catalogue();"
        "print([name for name in ('torch', 'torchvision', 'sklearn', 'pandas') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
