"""The twelve two-dimensional MedMNIST sets, as their authors publish them.

Yang et al., MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical image
classification, Scientific Data 2023, https://doi.org/10.1038/s41597-022-01721-8
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from fedcore.data.checksum import verify_checksum
from fedcore.data.dataset import SPLITS, Dataset, Split
from fedcore.data.files import find_or_download, search_folders
from fedcore.data.npz import read_arrays
from fedcore.data.splits import Limit, declared_sizes, limited
from fedcore.settings import Settings
from fedcore.task import Task, TaskKind

OWN_FOLDER = "~/.medmnist"
KINDS = {
    "binary-class": TaskKind.BINARY,
    "multi-class": TaskKind.MULTICLASS,
    "multi-label, binary-class": TaskKind.MULTILABEL,
    "ordinal-regression": TaskKind.ORDINAL,
}

Name = Literal[
    "pathmnist",
    "chestmnist",
    "dermamnist",
    "octmnist",
    "pneumoniamnist",
    "retinamnist",
    "breastmnist",
    "bloodmnist",
    "tissuemnist",
    "organamnist",
    "organcmnist",
    "organsmnist",
]


class MedMNIST(Settings):
    """A MedMNIST set of 2-D medical images, with its official splits and checksum."""

    kind: Literal["medmnist"] = "medmnist"
    name: Name = Field(default="pneumoniamnist", description="Which of the twelve 2-D sets.")
    size: Literal[28, 64, 128, 224] = Field(default=28, description="Side of the images in pixels.")
    download: bool = Field(
        default=True, description="Fetch the file (4 MB to 10 GB) where it is not found locally."
    )
    limit: Limit = None

    def load(self, folder: Path | None = None) -> Dataset:
        """The data set from ``folder/medmnist``, medmnist's own folder, or its publisher.

        Raises:
          DataNotFound: no file and no network; says where it was looked for.
          ChecksumMismatch: the file is not the official one.
          ValueError: its content is not what the catalogue describes.
        """
        info = catalogue()[self.name]
        suffix = "" if self.size == 28 else f"_{self.size}"
        md5 = info[f"MD5{suffix}"]
        path = find_or_download(
            [f"{self.name}{suffix}.npz"],
            search_folders(folder, "medmnist", cache=OWN_FOLDER),
            url=info[f"url{suffix}"],
            checksum=md5,
            may_download=self.download,
        )
        file = verify_checksum(path, md5)
        task = task_of(info)
        splits = _read(path, task, channels=info["n_channels"], size=self.size)
        return Dataset(
            name=f"{self.name}{suffix}",
            task=task,
            splits=limited(splits, self.limit),
            features={"kind": "image", "shape": [self.size, self.size, info["n_channels"]]},
            provenance={
                "source": info[f"url{suffix}"],
                "licence": info["license"],
                "files": [file],
                "declared": declared_sizes(info["n_samples"], limit=self.limit),
            },
        )


@cache
def catalogue() -> dict[str, dict[str, Any]]:
    """What the ``medmnist`` package says of each set: task, labels, sizes, urls and checksums.

    Only its module of facts is executed: importing the package would import torch, scikit-learn
    and pandas, and its downloader torchvision.
    """
    package = find_spec("medmnist")
    if package is None or not package.submodule_search_locations:
        raise ValueError("the package 'medmnist' is not installed: pip install medmnist.")
    path = Path(package.submodule_search_locations[0]) / "info.py"
    spec = spec_from_file_location("fedcore_medmnist_info", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} cannot be read: install medmnist again.")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.INFO)


def task_of(info: dict[str, Any]) -> Task:
    """The task that a catalogue entry describes."""
    labels = info["label"]
    return Task(KINDS[info["task"]], tuple(labels[str(index)] for index in range(len(labels))))


def _read(path: Path, task: Task, *, channels: int, size: int) -> dict[str, Split]:
    """The three splits, images (n, size, size, channels) uint8."""
    keys = [f"{split}_{part}" for split in SPLITS for part in ("images", "labels")]
    arrays = read_arrays(path, keys)
    splits = {}
    for split in SPLITS:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        images = images[..., None] if channels == 1 and images.ndim == 3 else images
        columns = len(task.labels) if task.kind is TaskKind.MULTILABEL else 1
        shapes = (len(images), size, size, channels), (len(images), columns)
        if images.dtype != np.uint8 or (images.shape, labels.shape) != shapes:
            raise ValueError(
                f"{path}: {split} has images {images.dtype} {images.shape} and labels "
                f"{labels.shape}; expected uint8 {shapes[0]} and {shapes[1]}. "
                "Get the official file."
            )
        targets = labels if task.kind is TaskKind.MULTILABEL else labels[:, 0]
        splits[split] = Split(images, targets.astype(np.int64))
    return splits
