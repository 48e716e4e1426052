"""A user's own arrays: one npz archive of images or of tables of numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from fedcore.data.dataset import SPLITS, Dataset, Split
from fedcore.data.encoding import TableEncoding
from fedcore.data.files import user_path
from fedcore.data.groups import group_names
from fedcore.data.npz import array_names, read_arrays
from fedcore.data.own import (
    DataPath,
    Declared,
    Labels,
    Licence,
    Name,
    by_split,
    file_entry,
    own_provenance,
)
from fedcore.data.owners import owner_ids
from fedcore.data.splits import Limit, TestFraction, ValFraction, hold_out, limited
from fedcore.settings import Settings
from fedcore.task import Task, TaskKind

HERE = "{split}"


class Arrays(Settings, title="Own arrays"):
    """Your own npz archive: images uint8 (n, h, w) or (n, h, w, c), or numbers (n, columns)."""

    kind: Literal["arrays"] = "arrays"
    name: Name = "arrays"
    path: DataPath
    task: Literal["binary", "multiclass", "multilabel", "ordinal", "regression"] = Field(
        default="multiclass", description="What is predicted."
    )
    labels: Labels = ()
    inputs: str = Field(
        default="{split}_images",
        min_length=1,
        description="Array of the inputs; {split} stands for train, val and test.",
    )
    targets: str = Field(
        default="{split}_labels",
        min_length=1,
        description="Array of the targets: (n,) or (n, 1) label indices or quantities; "
        "multilabel: (n, labels) of 0 and 1.",
    )
    owner: str | None = Field(
        default=None, description="Array (n,) of the owner of each sample: the natural clients."
    )
    group: str | None = Field(
        default=None,
        description="Array (n,) of the group of persons of each sample, for privacy.groups.",
    )
    split: str | None = Field(
        default=None, description="Array (n,) of train, val, test, where no name has {split}."
    )
    columns: tuple[str, ...] = Field(
        default=(), description="Names of a table's columns. Empty: x0, x1, ..."
    )
    test_fraction: TestFraction = 0.2
    val_fraction: ValFraction = 0.1
    limit: Limit = None
    declared: Declared = Field(default_factory=dict)
    licence: Licence = ""

    @model_validator(mode="after")
    def _names_make_sense(self) -> Arrays:
        given = (self.inputs, self.targets, self.owner, self.group)
        names = [name for name in given if name is not None]
        per_split = [HERE in name for name in names]
        if any(per_split) and not all(per_split):
            raise ValueError(f"{names}: either every array's name holds {HERE} or none does.")
        if self.split is not None and per_split[0]:
            raise ValueError(f"split={self.split!r}: the names hold {HERE} already; use one way.")
        return self

    def load(self, folder: Path | None = None) -> Dataset:
        """The data set; ``path`` may be relative to ``folder``.

        Raises:
          DataNotFound: no such file.
          ValueError: an array is missing or has another type or shape than described.
        """
        path = user_path(self.path, folder)
        splits = self._splits(path)
        task, features = self._task(splits), self._features(splits)
        splits = hold_out(
            splits,
            task,
            name=self.name,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
        )
        return Dataset(
            name=self.name,
            task=task,
            splits=limited(splits, self.limit),
            features=features,
            provenance=own_provenance(
                [file_entry(path)], self.licence, self.declared, limit=self.limit
            ),
        )

    def _splits(self, path: Path) -> dict[str, Split]:
        if HERE not in self.inputs:
            parts = {"train": self._part(path, "train")}
            if self.split is not None:
                names = read_arrays(path, [self.split])[self.split].astype(str)
                if names.shape != (len(parts["train"]),):
                    raise ValueError(
                        f"array {self.split!r} has shape {names.shape}; "
                        f"the inputs need ({len(parts['train'])},)."
                    )
                parts = by_split(parts["train"], names, where=f"array {self.split!r}")
        else:
            there = array_names(path)
            parts = {
                split: self._part(path, split)
                for split in SPLITS
                if split == "train" or self.inputs.replace(HERE, split) in there
            }
        shapes = {part.inputs.shape[1:] for part in parts.values()}
        if len(shapes) > 1:
            raise ValueError(f"{path}: the splits' inputs differ in shape: {sorted(shapes)}.")
        return parts

    def _part(self, path: Path, split: str) -> Split:
        names = [name.replace(HERE, split) for name in (self.inputs, self.targets)]
        owner, group = (
            None if name is None else name.replace(HERE, split) for name in (self.owner, self.group)
        )
        more = {name for name in (owner, group) if name is not None}
        arrays = read_arrays(path, [*names, *more])
        inputs, targets = _inputs(arrays[names[0]], names[0]), arrays[names[1]]
        if targets.ndim == 2 and targets.shape[1] == 1 and self.task != "multilabel":
            targets = targets[:, 0]
        owners = None if owner is None else owner_ids(arrays[owner])
        groups = None if group is None else group_names(arrays[group])
        if groups is not None and groups.shape != (len(inputs),):
            raise ValueError(
                f"array {group!r} has shape {groups.shape}; the inputs need ({len(inputs)},)."
            )
        lengths = [len(inputs), len(targets), len(inputs if owners is None else owners)]
        if len(set(lengths)) > 1 or targets.ndim != (2 if self.task == "multilabel" else 1):
            raise ValueError(
                f"array {names[1]!r} has shape {arrays[names[1]].shape} beside inputs "
                f"{inputs.shape}{'' if owners is None else f' and owners {owners.shape}'}: a "
                f"{self.task} task needs one target for each of the inputs."
            )
        return Split(inputs, self._checked(targets, names[1]), owners, groups)

    def _checked(self, targets: np.ndarray, name: str) -> np.ndarray:
        if self.task == "regression":
            if targets.dtype.kind not in "iuf" or not np.isfinite(targets).all():
                raise ValueError(f"array {name!r} ({targets.dtype}) must hold finite numbers.")
            return targets.astype(np.float32)
        if targets.dtype.kind not in "iub" or (len(targets) and int(targets.min()) < 0):
            raise ValueError(
                f"array {name!r} ({targets.dtype}) must hold label indices: whole numbers from 0."
            )
        return targets.astype(np.int64)

    def _task(self, splits: dict[str, Split]) -> Task:
        kind = TaskKind(self.task)
        if kind is TaskKind.REGRESSION:
            return Task(kind, self.labels or ("quantity",))
        targets = [part.targets for part in splits.values() if len(part)]
        if kind is TaskKind.MULTILABEL:
            count = targets[0].shape[1]
            largest = max(int(part.max()) for part in targets)
            if largest > 1 or (self.labels and len(self.labels) != count):
                raise ValueError(
                    f"array {self.targets!r} has {count} columns and values up to {largest}; a "
                    f"multilabel task with labels={list(self.labels)} needs a 0/1 column each."
                )
        else:
            count = max(int(part.max()) for part in targets) + 1
            count = max(count, 2) if kind is TaskKind.BINARY and not self.labels else count
            allowed = 2 if kind is TaskKind.BINARY else len(self.labels) or count
            if count > allowed:
                raise ValueError(
                    f"array {self.targets!r} holds label indices up to {count - 1}; a {self.task} "
                    f"task with labels={list(self.labels)} has 0 to {allowed - 1}."
                )
        return Task(kind, self.labels or tuple(str(index) for index in range(count)))

    def _features(self, splits: dict[str, Split]) -> dict[str, Any]:
        shape = splits["train"].inputs.shape[1:]
        if len(shape) == 3:
            return {"kind": "image", "shape": list(shape)}
        names = self.columns or tuple(f"x{number}" for number in range(shape[0]))
        if len(names) != shape[0]:
            raise ValueError(
                f"columns={list(names)[:10]} names {len(names)}, array {self.inputs!r} has "
                f"{shape[0]}."
            )
        return TableEncoding(numeric=names).features()


def _inputs(array: np.ndarray, name: str) -> np.ndarray:
    """Images (n, h, w, c) uint8, or a table (n, d) float32."""
    if array.dtype == np.uint8 and array.ndim == 3:
        return array[..., None]
    if array.dtype == np.uint8 and array.ndim == 4 and array.shape[3] in (1, 3):
        return array
    if array.dtype.kind in "iufb" and array.ndim == 2:
        if not np.isfinite(array).all():
            row, column = (int(at[0]) for at in np.nonzero(~np.isfinite(array)))
            raise ValueError(
                f"array {name!r} holds {array[row, column]} in row {row}, column {column}. Fill "
                "missing values or leave these rows out."
            )
        return array.astype(np.float32)
    raise ValueError(
        f"array {name!r} is {array.dtype} {array.shape}; inputs are images uint8 (n, h, w) or "
        "(n, h, w, 1 or 3), or numbers (n, columns). Images of other types: scale to 0..255 first."
    )
