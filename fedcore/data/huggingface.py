"""Image sets as Hugging Face ``datasets``: for the Trainer backend, and to look at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcore.data.dataset import Split
from fedcore.task import Task, TaskKind

if TYPE_CHECKING:
    import datasets


def to_huggingface(split: Split, task: Task) -> datasets.Dataset:
    """The split with columns ``image``, ``label`` and, where there are any, ``owner``.

    ``label`` is a ``ClassLabel`` with the task's names; for multilabel a fixed-length list of 0
    and 1, for regression a float. The task itself, with its label map, is in
    ``info.description`` as JSON; ``label_maps`` gives it in the form of a model's config.

    Args:
      split: images (n, h, w, c) uint8, stored without loss (PNG).
      task: of the data set.

    Raises:
      ValueError: the split holds no images.
    """
    import datasets
    from PIL import Image

    if split.inputs.ndim != 4 or split.inputs.dtype != np.uint8:
        raise ValueError(
            f"inputs are {split.inputs.dtype} {split.inputs.shape}: only images, uint8 "
            "(n, h, w, c), become a Hugging Face data set."
        )
    columns: dict[str, Any] = {
        "image": [
            Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
            for image in split.inputs
        ],
        "label": split.targets.tolist(),
    }
    features: dict[str, Any] = {"image": datasets.Image(), "label": _label_feature(task)}
    if split.owners is not None:
        columns["owner"] = split.owners.astype(str).tolist()
        features["owner"] = datasets.Value("string")
    return datasets.Dataset.from_dict(
        columns,
        features=datasets.Features(features),
        info=datasets.DatasetInfo(
            description=json.dumps(task.to_json(), sort_keys=True),
            features=datasets.Features(features),
        ),
    )


def label_maps(task: Task) -> dict[str, dict[Any, Any]]:
    """``id2label`` and ``label2id`` as ``transformers`` configs hold them.

    >>> label_maps(Task(TaskKind.BINARY, ("normal", "pneumonia")))["id2label"]
    {0: 'normal', 1: 'pneumonia'}
    """
    return {
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: index for index, label in enumerate(task.labels)},
    }


def _label_feature(task: Task) -> Any:
    import datasets

    if task.kind is TaskKind.REGRESSION:
        return datasets.Value("float32")
    if task.kind is TaskKind.MULTILABEL:
        return datasets.List(datasets.Value("int64"), length=len(task.labels))
    return datasets.ClassLabel(names=list(task.labels))
