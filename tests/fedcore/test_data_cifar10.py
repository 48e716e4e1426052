"""CIFAR-10: batches of the official binary layout, with fewer records."""

import io
import tarfile

import numpy as np
import pytest

from fedcore.data import cifar10
from fedcore.data.checksum import ChecksumMismatch, md5_of
from fedcore.data.cifar10 import CIFAR10
from fedcore.data.download import DataNotFound

RECORDS = 20


@pytest.fixture
def batches(monkeypatch):
    """Small batches by name, in place of those of 10 000 records."""
    monkeypatch.setattr(cifar10, "RECORDS", RECORDS)
    monkeypatch.setattr(cifar10, "SIZES", {"train": 5 * RECORDS, "test": RECORDS})
    rng = np.random.default_rng(0)
    made = {}
    for names in cifar10.BATCHES.values():
        for name in names:
            labels = (np.arange(RECORDS) % 10)[:, None]
            pixels = rng.integers(0, 256, (RECORDS, 3072))
            made[name] = np.hstack([labels, pixels]).astype(np.uint8).tobytes()
    return made


def write_archive(folder, batches, monkeypatch):
    path = folder / "cifar10" / "cifar-10-binary.tar.gz"
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, data in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    monkeypatch.setattr(cifar10, "MD5", md5_of(path))
    return path


def test_archive_and_folder_are_the_same_data(batches, tmp_path, monkeypatch):
    write_archive(tmp_path, batches, monkeypatch)
    packed = CIFAR10(download=False).load(tmp_path)
    inside = tmp_path / "b" / "cifar10" / "cifar-10-batches-bin"
    inside.mkdir(parents=True)
    for name, data in batches.items():
        (inside / name).write_bytes(data)
    unpacked = CIFAR10(download=False).load(tmp_path / "b")
    assert packed.fingerprint == unpacked.fingerprint
    assert {split: len(part) for split, part in packed.splits.items()} == {
        "train": 90,
        "val": 10,
        "test": 20,
    }
    assert packed.provenance["declared"] == {"train": 90, "val": 10, "test": 20}
    assert len(unpacked.provenance["files"]) == 6


def test_pixels_are_planes_of_red_green_blue(batches, tmp_path, monkeypatch):
    write_archive(tmp_path, batches, monkeypatch)
    test = CIFAR10(download=False).load(tmp_path).splits["test"]
    record = np.frombuffer(batches["test_batch.bin"], np.uint8)[:3073]
    assert test.inputs.shape == (20, 32, 32, 3)
    assert test.targets[0] == record[0]
    assert test.inputs[0, 0, 1].tolist() == [record[2], record[1026], record[2050]]
    assert test.inputs[0, 31, 31].tolist() == [record[1024], record[2048], record[3072]]


def test_altered_archive_is_refused(batches, tmp_path, monkeypatch):
    path = write_archive(tmp_path, batches, monkeypatch)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ChecksumMismatch, match=r"cifar-10-binary.tar.gz has md5"):
        CIFAR10(download=False).load(tmp_path)


def test_incomplete_archives_and_folders_are_refused(batches, tmp_path, monkeypatch):
    short = batches | {"data_batch_2.bin": batches["data_batch_2.bin"][:-1]}
    write_archive(tmp_path, short, monkeypatch)
    with pytest.raises(ValueError, match=r"data_batch_2.bin has 61459 bytes, a batch has 61460"):
        CIFAR10(download=False).load(tmp_path)
    fewer = {name: data for name, data in batches.items() if name != "data_batch_3.bin"}
    path = write_archive(tmp_path, fewer, monkeypatch)
    with pytest.raises(ValueError, match=r"lacks \['data_batch_3.bin'\]"):
        CIFAR10(download=False).load(tmp_path)
    path.write_bytes(b"no archive")
    monkeypatch.setattr(cifar10, "MD5", md5_of(path))
    with pytest.raises(ValueError, match=r"no readable tar.gz archive"):
        CIFAR10(download=False).load(tmp_path)
    path.unlink()
    inside = path.parent / "cifar-10-batches-bin"
    inside.mkdir()
    for name, data in fewer.items():
        (inside / name).write_bytes(data)
    with pytest.raises(ValueError, match=r"data_batch_3.bin is missing"):
        CIFAR10(download=False).load(tmp_path)


def test_pickled_version_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "cifar10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "test_batch").write_bytes(b"\x80\x04.")
    with pytest.raises(DataNotFound, match=r"cifar-10-binary.tar.gz was not found"):
        CIFAR10(download=False).load(tmp_path)
