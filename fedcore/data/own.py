"""What a user's own tables, texts, arrays and images have in common: names, labels, sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from fedcore.data.checksum import md5_of, md5_of_bytes
from fedcore.data.dataset import Split
from fedcore.task import Task, TaskKind

# What provenance says of the source of a user's own data.
OWN = "own data"
SplitName = Literal["train", "val", "test"]
Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="Short name of the data set in run names and tags.",
    ),
]
DataPath = Annotated[
    str,
    Field(
        min_length=1, description="Full path, or relative to the folder that FEDLOOM_DATA names."
    ),
]
Labels = Annotated[
    tuple[str, ...],
    Field(
        description="Labels by index; binary: negative, positive. Empty: those found, in order.",
    ),
]
Declared = Annotated[
    dict[SplitName, Annotated[int, Field(ge=0)]],
    Field(description="Sizes that the splits must have; the audit compares. Empty: not checked."),
]
Licence = Annotated[str, Field(description="Licence or terms of use, for the model card.")]


def order_labels(found: Sequence[str], labels: Sequence[str], *, where: str) -> tuple[str, ...]:
    """Labels by index: the given ones, or those found, sorted as numbers if they all are.

    >>> order_labels(["10", "9"], (), where="stage")
    ('9', '10')

    Raises:
      ValueError: a label was found that is not among the given ones, or one is given twice.
    """
    if not labels:
        texts = sorted(set(found))
        try:
            return tuple(sorted(texts, key=float))
        except ValueError:
            return tuple(texts)
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels={list(labels)} names one twice; name each once.")
    unknown = sorted(set(found) - set(labels))
    if unknown:
        raise ValueError(
            f"{where} holds {unknown}; those named are {list(labels)}. Add them there, or correct "
            "the data."
        )
    return tuple(labels)


def class_targets(
    values: Sequence[str], kind: TaskKind, labels: Sequence[str], *, where: str
) -> tuple[np.ndarray, Task]:
    """(n,) int64 index of each sample's label, and the task.

    Raises:
      ValueError: an unknown label, or a binary task with other than two.
    """
    ordered = order_labels(values, labels, where=where)
    if kind is TaskKind.BINARY and len(ordered) != 2:
        raise ValueError(
            f"{where} holds {len(ordered)} labels {list(ordered)[:10]}, a binary task has 2. Name "
            "both under labels, or use task: multiclass."
        )
    index = {label: number for number, label in enumerate(ordered)}
    return np.array([index[value] for value in values], dtype=np.int64), Task(kind, ordered)


def by_split(everything: Split, names: np.ndarray | None, *, where: str) -> dict[str, Split]:
    """The samples of each split, from (n,) texts ``train``, ``val`` or ``test``; None: all train.

    Raises:
      ValueError: another text.
    """
    if names is None:
        return {"train": everything}
    unknown = sorted(set(names.tolist()) - {"train", "val", "test"})
    if unknown:
        raise ValueError(f"{where} holds {unknown}; a split is train, val or test.")
    return {str(name): everything.take(np.flatnonzero(names == name)) for name in np.unique(names)}


def own_provenance(
    files: Sequence[Mapping[str, Any]],
    licence: str,
    declared: Mapping[SplitName, int],
    limit: int | None = None,
) -> dict[str, Any]:
    """Provenance of a user's own data: no folders, only names and checksums."""
    sizes = {name: size if limit is None else min(size, limit) for name, size in declared.items()}
    return {
        "source": OWN,
        "licence": licence or "not stated",
        "files": [dict(file) for file in files],
        **({"declared": sizes} if sizes else {}),
    }


def file_entry(path: Path) -> dict[str, Any]:
    """The name, without folders, and MD5 of a file; of a folder: of the list of its files."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return {"name": path.name, "files": len(files), "md5": listing_md5(path, files)}
    return {"name": path.name, "md5": md5_of(path)}


def listing_md5(root: Path, files: Sequence[Path]) -> str:
    """MD5 of the files' paths below ``root`` and their own MD5s, in that order."""
    listing = "\n".join(f"{path.relative_to(root).as_posix()} {md5_of(path)}" for path in files)
    return md5_of_bytes(listing.encode())
