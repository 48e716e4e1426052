"""MNIST and Fashion-MNIST: the real arrays where they are, small files of the same format."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedcore.data import mnist
from fedcore.data.checksum import ChecksumMismatch
from fedcore.data.download import DataNotFound
from fedcore.data.idx import idx_bytes, idx_md5
from fedcore.data.mnist import MNIST, FashionMNIST

COUNTS = {"train": 60, "test": 20}


@pytest.fixture
def small(monkeypatch):
    """Small arrays whose checksums are the published ones for this test."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in COUNTS.items():
        arrays[f"x_{split}"] = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        arrays[f"y_{split}"] = (np.arange(count) % 10).astype(np.uint8)
    for name in ("MNIST_FILES", "FASHION_FILES"):
        files = getattr(mnist, name)
        patched = tuple(replace(file, md5=idx_md5(arrays[file.npz_name])) for file in files)
        monkeypatch.setattr(mnist, name, patched)
    monkeypatch.setattr(mnist, "SIZES", COUNTS)
    monkeypatch.setattr(mnist, "DEBIAN_FASHION", "/nowhere")
    return arrays


def write_idx(folder, arrays, *, packed):
    folder.mkdir(parents=True)
    for file in mnist.MNIST_FILES:
        data = idx_bytes(arrays[file.npz_name])
        name = f"{file.name}.gz" if packed else file.name
        (folder / name).write_bytes(gzip.compress(data) if packed else data)


def check(dataset, arrays):
    assert {split: len(part) for split, part in dataset.splits.items()} == {
        "train": 54,
        "val": 6,
        "test": 20,
    }
    assert dataset.provenance["declared"] == {"train": 54, "val": 6, "test": 20}
    assert dataset.features["shape"] == [28, 28, 1]
    assert np.array_equal(dataset.splits["test"].inputs[..., 0], arrays["x_test"])
    assert np.array_equal(dataset.splits["test"].targets, arrays["y_test"].astype(np.int64))
    both = np.concatenate([dataset.splits[split].inputs for split in ("train", "val")])
    assert sorted(map(bytes, both)) == sorted(map(bytes, arrays["x_train"]))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("source", "name"), [(MNIST, "mnist"), (FashionMNIST, "fashion-mnist")])
def test_idx_files(small, tmp_path, source, name, packed):
    write_idx(tmp_path / name, small, packed=packed)
    dataset = source(download=False).load(tmp_path)
    assert dataset.name == name
    check(dataset, small)


def test_archive_and_idx_files_are_the_same_data(small, tmp_path):
    write_idx(tmp_path / "a" / "mnist", small, packed=True)
    (tmp_path / "b" / "mnist").mkdir(parents=True)
    np.savez_compressed(tmp_path / "b" / "mnist" / "mnist.npz", **small)
    one, two = (MNIST(download=False).load(tmp_path / part) for part in "ab")
    check(two, small)
    assert one.fingerprint == two.fingerprint


def test_debian_folder_is_searched(small, tmp_path, monkeypatch):
    write_idx(tmp_path / "share", small, packed=True)
    monkeypatch.setattr(mnist, "DEBIAN_FASHION", str(tmp_path / "share"))
    monkeypatch.setenv("HOME", str(tmp_path))
    dataset = FashionMNIST(download=False).load(None)
    check(dataset, small)
    assert dataset.task.labels[9] == "Ankle boot"


def test_labels_in_another_order_are_found(small, tmp_path):
    (tmp_path / "mnist").mkdir()
    np.savez(tmp_path / "mnist" / "mnist.npz", **small | {"y_train": small["y_train"][::-1]})
    with pytest.raises(ChecksumMismatch, match=r"mnist.npz has md5"):
        MNIST(download=False).load(tmp_path)


def test_no_validation_and_limit(small, tmp_path):
    write_idx(tmp_path / "mnist", small, packed=True)
    dataset = MNIST(val_fraction=0.0, limit=30).load(tmp_path)
    assert {split: len(part) for split, part in dataset.splits.items()} == {"train": 30, "test": 20}
    assert dataset.provenance["declared"] == {"train": 30, "test": 20}
    assert np.array_equal(dataset.splits["train"].inputs[..., 0], small["x_train"][:30])


def test_no_file_says_where(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(mnist, "DEBIAN_FASHION", "/nowhere")
    with pytest.raises(DataNotFound, match=r"train-images-idx3-ubyte.gz or .*fashion-mnist"):
        FashionMNIST(download=False).load(tmp_path)
    with pytest.raises(DataNotFound, match=r", or mnist\.npz, which holds all 4 files, and put it"):
        MNIST(download=False).load(tmp_path)


def test_real_fashion_mnist():
    if not Path(mnist.DEBIAN_FASHION).is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    dataset = FashionMNIST(download=False).load(None)
    counts = sum(np.bincount(dataset.splits[split].targets) for split in ("train", "val"))
    assert counts.tolist() == [6000] * 10
    assert dataset.splits["test"].targets[:6].tolist() == [9, 2, 1, 1, 6, 1]


def test_real_mnist(fedloom_data):
    dataset = MNIST(download=False).load(fedloom_data)
    assert {split: len(part) for split, part in dataset.splits.items()} == {
        "train": 54000,
        "val": 6000,
        "test": 10000,
    }
    assert dataset.splits["test"].targets[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    # The well-known counts of the digits in the training part.
    counts = np.array([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    found = sum(np.bincount(dataset.splits[split].targets) for split in ("train", "val"))
    assert np.array_equal(found, counts)
    share = np.bincount(dataset.splits["val"].targets)
    assert np.abs(share - counts * 0.1).max() < 1.0
