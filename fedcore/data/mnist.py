"""MNIST and Fashion-MNIST: 70 000 grey images of 28 x 28 pixels, ten classes, two splits.

LeCun, Cortes, Burges, The MNIST database of handwritten digits, 1998. Xiao, Rasul, Vollgraf,
Fashion-MNIST, 2017, https://arxiv.org/abs/1708.07747. Checksums are of the uncompressed idx
content, so they hold for gzip files of any packer and for an npz archive of the same arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from fedcore.data.checksum import verify_checksum
from fedcore.data.dataset import Dataset, Split
from fedcore.data.files import find_file, find_or_download, search_folders
from fedcore.data.idx import idx_md5, read_idx
from fedcore.data.npz import read_arrays
from fedcore.data.splits import Limit, ValFraction, declared_sizes, hold_out, limited
from fedcore.settings import Settings
from fedcore.task import Task, TaskKind

SIZES = {"train": 60000, "test": 10000}


@dataclass(frozen=True)
class IdxFile:
    """One published idx file.

    Attributes:
      name: without ``.gz``.
      md5: of the uncompressed content.
      gzip_md5: of the published gzip file.
      npz_name: its array in an npz archive.
    """

    name: str
    md5: str
    gzip_md5: str
    npz_name: str


MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_FILES = (
    IdxFile(
        "train-images-idx3-ubyte",
        "6bbc9ace898e44ae57da46a324031adb",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "x_train",
    ),
    IdxFile(
        "train-labels-idx1-ubyte",
        "a25bea736e30d166cdddb491f175f624",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "y_train",
    ),
    IdxFile(
        "t10k-images-idx3-ubyte",
        "2646ac647ad5339dbf082846283269ea",
        "9fb629c4189551a2d022fa330f9573f3",
        "x_test",
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte",
        "27ae3e4e09519cfbb04c329615203637",
        "ec29112dd5afa0611ce80d1b7f02629c",
        "y_test",
    ),
)
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_FILES = (
    IdxFile(
        "train-images-idx3-ubyte",
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "x_train",
    ),
    IdxFile(
        "train-labels-idx1-ubyte",
        "9018921c3c673c538a1fc5bad174d6f9",
        "25c81989df183df01b3e8a0aad5dffbe",
        "y_train",
    ),
    IdxFile(
        "t10k-images-idx3-ubyte",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "bef4ecab320f06d8554ea6380940ec79",
        "x_test",
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte",
        "15d484375f8d13e6eb1aabb0c3f46965",
        "bb300cfdad3c16e7a12a480ee83cd310",
        "y_test",
    ),
)
DEBIAN_FASHION = "/usr/share/datasets/fashion-mnist"
FASHION_LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
Download = Field(default=True, description="Fetch the files where they are not found locally.")


class MNIST(Settings):
    """MNIST: handwritten digits, 60 000 for training and 10 000 for test."""

    kind: Literal["mnist"] = "mnist"
    val_fraction: ValFraction = 0.1
    limit: Limit = None
    download: bool = Download

    def load(self, folder: Path | None = None) -> Dataset:
        """The data set from ``folder/mnist`` (``mnist.npz`` or idx files), or its publisher.

        Raises:
          DataNotFound, ChecksumMismatch, ValueError: as all sources of files.
        """
        return load_idx_dataset(
            "mnist",
            MNIST_FILES,
            search_folders(folder, "mnist"),
            url=MNIST_URL,
            labels=tuple(str(digit) for digit in range(10)),
            licence="CC BY-SA 3.0",
            settings=self,
        )


class FashionMNIST(Settings, title="Fashion-MNIST"):
    """Fashion-MNIST: pictures of clothing, 60 000 for training and 10 000 for test."""

    kind: Literal["fashion_mnist"] = "fashion_mnist"
    val_fraction: ValFraction = 0.1
    limit: Limit = None
    download: bool = Download

    def load(self, folder: Path | None = None) -> Dataset:
        """The data set from ``folder/fashion-mnist``, Debian's package, or its publisher.

        Raises:
          DataNotFound, ChecksumMismatch, ValueError: as all sources of files.
        """
        return load_idx_dataset(
            "fashion-mnist",
            FASHION_FILES,
            search_folders(folder, "fashion-mnist", others=[DEBIAN_FASHION]),
            url=FASHION_URL,
            labels=FASHION_LABELS,
            licence="MIT",
            settings=self,
        )


def load_idx_dataset(
    name: str,
    files: Sequence[IdxFile],
    folders: Sequence[Path],
    *,
    url: str,
    labels: tuple[str, ...],
    licence: str,
    settings: MNIST | FashionMNIST,
) -> Dataset:
    """Four idx files, or one ``<name>.npz`` of the same arrays, as a data set."""
    archive = find_file([f"{name}.npz"], folders)
    if archive is not None:
        arrays, entries = _from_npz(archive, files)
    else:
        arrays, entries = _from_idx(
            files,
            folders,
            url=url,
            may_download=settings.download,
            instead=f"{name}.npz, which holds all {len(files)} files",
        )
    task = Task(TaskKind.MULTICLASS, labels)
    official = {
        split: Split(arrays[f"x_{split}"][..., None], arrays[f"y_{split}"].astype(np.int64))
        for split in SIZES
    }
    splits = hold_out(official, task, name=name, val_fraction=settings.val_fraction)
    return Dataset(
        name=name,
        task=task,
        splits=limited(splits, settings.limit),
        features={"kind": "image", "shape": [28, 28, 1]},
        provenance={
            "source": url,
            "licence": licence,
            "files": entries,
            "declared": declared_sizes(
                SIZES, val_fraction=settings.val_fraction, limit=settings.limit
            ),
        },
    )


def _from_npz(
    path: Path, files: Sequence[IdxFile]
) -> tuple[Mapping[str, np.ndarray], list[dict[str, Any]]]:
    arrays = read_arrays(path, [file.npz_name for file in files])
    entries = [
        verify_checksum(path, file.md5, actual=idx_md5(arrays[file.npz_name]))
        | {"array": file.npz_name}
        for file in files
    ]
    return arrays, entries


def _from_idx(
    files: Sequence[IdxFile],
    folders: Sequence[Path],
    *,
    url: str,
    may_download: bool,
    instead: str,
) -> tuple[Mapping[str, np.ndarray], list[dict[str, Any]]]:
    arrays, entries = {}, []
    for file in files:
        path = find_or_download(
            [f"{file.name}.gz", file.name],
            folders,
            url=f"{url}{file.name}.gz",
            checksum=file.gzip_md5,
            may_download=may_download,
            instead=instead,
        )
        arrays[file.npz_name] = read_idx(path)
        entries.append(verify_checksum(path, file.md5, actual=idx_md5(arrays[file.npz_name])))
    return arrays, entries
