"""CIFAR-10 in its official binary version; the Python version is a pickle and is never read.

Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from fedcore.data.checksum import md5_of, verify_checksum
from fedcore.data.dataset import Dataset, Split
from fedcore.data.files import find_file, find_or_download, search_folders
from fedcore.data.splits import Limit, ValFraction, declared_sizes, hold_out, limited
from fedcore.settings import Settings
from fedcore.task import Task, TaskKind

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE = "cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
INSIDE = "cifar-10-batches-bin"
BATCHES = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}
SIZES = {"train": 50000, "test": 10000}
RECORDS, RECORD_BYTES = 10000, 1 + 3 * 32 * 32
LABELS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


class CIFAR10(Settings, title="CIFAR-10"):
    """CIFAR-10: colour pictures of 32 x 32 pixels, ten classes, 50 000 and 10 000."""

    kind: Literal["cifar10"] = "cifar10"
    val_fraction: ValFraction = 0.1
    limit: Limit = None
    download: bool = Field(
        default=True, description="Fetch the archive (162 MB) where it is not found locally."
    )

    def load(self, folder: Path | None = None) -> Dataset:
        """The data set from ``folder/cifar10`` (archive or unpacked folder), or its publisher.

        Raises:
          DataNotFound, ChecksumMismatch, ValueError: as all sources of files.
        """
        folders = search_folders(folder, "cifar10")
        unpacked = find_file([f"{INSIDE}/{name}" for name in BATCHES["test"]], folders)
        if unpacked is not None and find_file([ARCHIVE], folders) is None:
            batches, files = _from_folder(unpacked.parent)
        else:
            path = find_or_download(
                [ARCHIVE], folders, url=URL, checksum=MD5, may_download=self.download
            )
            files = [verify_checksum(path, MD5)]
            batches = _from_archive(path)
        official = {
            split: _decode([batches[name] for name in names]) for split, names in BATCHES.items()
        }
        task = Task(TaskKind.MULTICLASS, LABELS)
        splits = hold_out(official, task, name="cifar10", val_fraction=self.val_fraction)
        return Dataset(
            name="cifar10",
            task=task,
            splits=limited(splits, self.limit),
            features={"kind": "image", "shape": [32, 32, 3]},
            provenance={
                "source": URL,
                "licence": "not stated by the source",
                "files": files,
                "declared": declared_sizes(SIZES, val_fraction=self.val_fraction, limit=self.limit),
            },
        )


def _from_archive(path: Path) -> dict[str, np.ndarray]:
    """Batches by name, read member by member: nothing is unpacked to disk."""
    batches = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = member.name.removeprefix(f"{INSIDE}/")
                if member.isfile() and name in (*BATCHES["train"], *BATCHES["test"]):
                    file = archive.extractfile(member)
                    batches[name] = _records(file.read() if file else b"", f"{path}: {name}")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} is no readable tar.gz archive ({error}). Get it again."
        ) from error
    absent = sorted({*BATCHES["train"], *BATCHES["test"]} - set(batches))
    if absent:
        raise ValueError(f"{path} lacks {absent}: get {URL}.")
    return batches


def _from_folder(folder: Path) -> tuple[Mapping[str, np.ndarray], list[dict[str, Any]]]:
    """Batches of the unpacked archive, for whose files no checksums are published."""
    batches, files = {}, []
    for name in (*BATCHES["train"], *BATCHES["test"]):
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing: unpack {ARCHIVE} again.")
        batches[name] = _records(path.read_bytes(), str(path))
        files.append({"name": name, "md5": md5_of(path), "published": False})
    return batches, files


def _records(data: bytes, where: str) -> np.ndarray:
    """(10000, 3073) uint8: label, then 1024 red, green and blue values each."""
    if len(data) != RECORDS * RECORD_BYTES:
        raise ValueError(
            f"{where} has {len(data)} bytes, a batch has {RECORDS * RECORD_BYTES}. Get {URL} again."
        )
    return np.frombuffer(data, np.uint8).reshape(RECORDS, RECORD_BYTES)


def _decode(batches: list[np.ndarray]) -> Split:
    records = np.concatenate(batches)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Split(np.ascontiguousarray(images), records[:, 0].astype(np.int64))
