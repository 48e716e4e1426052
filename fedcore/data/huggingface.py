"""To and from Hugging Face ``datasets``: for the Trainer backend, to look at, and saved folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcore.data.dataset import Split
from fedcore.data.text_bytes import unpack
from fedcore.task import Task, TaskKind

if TYPE_CHECKING:
    import datasets
    import pandas as pd

# What ``datasets`` calls a split, and we another way.
SPLIT_NAMES = {"validation": "val"}


def to_huggingface(split: Split, task: Task) -> datasets.Dataset:
    """The split with columns ``image`` or ``text``, ``label`` and, if there are any, ``owner``.

    ``label`` is a ``ClassLabel`` with the task's names; for multilabel a fixed-length list of 0
    and 1, for regression a float. The task itself, with its label map, is in
    ``info.description`` as JSON; ``label_maps`` gives it in the form of a model's config.

    Args:
      split: images (n, h, w, c) uint8, stored without loss (PNG), or texts (n, most_bytes) uint8.
      task: of the data set.

    Raises:
      ValueError: the split holds neither images nor texts.
    """
    import datasets

    if split.inputs.ndim not in (2, 4) or split.inputs.dtype != np.uint8:
        raise ValueError(
            f"inputs are {split.inputs.dtype} {split.inputs.shape}: only images, uint8 "
            "(n, h, w, c), and texts, uint8 (n, most_bytes), become a Hugging Face data set."
        )
    columns: dict[str, Any]
    features: dict[str, Any]
    if split.inputs.ndim == 4:
        columns, features = {"image": _pictures(split.inputs)}, {"image": datasets.Image()}
    else:
        columns, features = {"text": unpack(split.inputs)}, {"text": datasets.Value("string")}
    columns["label"], features["label"] = split.targets.tolist(), _label_feature(task)
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


def read_saved(folder: Path) -> tuple[pd.DataFrame, np.ndarray | None]:
    """A folder that ``save_to_disk`` wrote, class labels by name; (n,) splits if it has any.

    Raises:
      ValueError: it is no such folder.
    """
    import datasets
    import pandas as pd

    try:
        saved = datasets.load_from_disk(str(folder))
    except (FileNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{folder} is no folder that `datasets` has saved: {error}") from error
    if isinstance(saved, datasets.Dataset):
        return _frame(saved), None
    names = [SPLIT_NAMES.get(name, name) for name in saved]
    frame = pd.concat([_frame(part) for part in saved.values()], ignore_index=True)
    return frame, np.repeat(names, [len(part) for part in saved.values()])


def label_maps(task: Task) -> dict[str, dict[Any, Any]]:
    """``id2label`` and ``label2id`` as ``transformers`` configs hold them.

    >>> label_maps(Task(TaskKind.BINARY, ("normal", "pneumonia")))["id2label"]
    {0: 'normal', 1: 'pneumonia'}
    """
    return {
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: index for index, label in enumerate(task.labels)},
    }


def _frame(saved: datasets.Dataset) -> pd.DataFrame:
    import datasets

    frame = saved.to_pandas()
    for name, feature in saved.features.items():
        if isinstance(feature, datasets.ClassLabel):
            # -1 stands for no label.
            names = dict(enumerate(feature.names))
            frame[name] = [names.get(value) for value in frame[name]]
    return frame


def _pictures(images: np.ndarray) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(one[..., 0] if one.shape[2] == 1 else one) for one in images]


def _label_feature(task: Task) -> Any:
    import datasets

    if task.kind is TaskKind.REGRESSION:
        return datasets.Value("float32")
    if task.kind is TaskKind.MULTILABEL:
        return datasets.List(datasets.Value("int64"), length=len(task.labels))
    return datasets.ClassLabel(names=list(task.labels))
