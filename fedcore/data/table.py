"""A user's own table: one CSV or parquet file, its columns described by name."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, model_validator

from fedcore.data.dataset import Dataset, Split
from fedcore.data.encoding import Missing, TableEncoding, category_texts, numbers
from fedcore.data.files import user_path
from fedcore.data.groups import group_names
from fedcore.data.own import (
    DataPath,
    Declared,
    Labels,
    Licence,
    Name,
    by_split,
    class_targets,
    file_entry,
    order_labels,
    own_provenance,
)
from fedcore.data.owners import owner_ids
from fedcore.data.splits import TestFraction, ValFraction, hold_out
from fedcore.settings import Settings
from fedcore.task import Task, TaskKind

if TYPE_CHECKING:
    import pandas as pd


class Table(Settings, title="Own table"):
    """Your own table (CSV or parquet), one row per sample."""

    kind: Literal["table"] = "table"
    name: Name = "table"
    path: DataPath
    task: Literal["binary", "multiclass", "multilabel", "ordinal", "regression"] = Field(
        default="binary", description="What is predicted."
    )
    label: str = Field(
        default="", description="Column of the label or quantity; empty for multilabel."
    )
    labels: Labels = Field(
        default=(),
        description="Labels by index; binary: negative, positive; multilabel: its 0/1 columns. "
        "Empty: the values found, sorted.",
    )
    numeric: tuple[str, ...] = Field(default=(), description="Columns used as numbers.")
    categorical: tuple[str, ...] = Field(
        default=(), description="Columns used as categories (one-hot)."
    )
    categories: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Categories of a categorical column, in order. Unnamed: those in the file.",
    )
    drop_first: bool = Field(
        default=False, description="Leave out each column's first category (linear models)."
    )
    missing: Missing = Field(
        default="refuse",
        description="Rows with missing values: refuse the file, drop the rows, or indicate "
        "(0 and an extra column that says so).",
    )
    missing_values: tuple[str, ...] = Field(
        default=("", "NA", "NaN", "?"), description="Texts in a CSV that mean a missing value."
    )
    owner: str | None = Field(
        default=None, description="Column of the owner of each row: the natural clients."
    )
    group: str | None = Field(
        default=None,
        description="Column of the group of persons of each row, for privacy.groups; it may be an "
        "input or the owner too.",
    )
    split: str | None = Field(
        default=None, description="Column that says train, val or test; splits it lacks are drawn."
    )
    test_fraction: TestFraction = 0.2
    val_fraction: ValFraction = 0.1
    declared: Declared = Field(default_factory=dict)
    licence: Licence = ""

    @model_validator(mode="after")
    def _columns_make_sense(self) -> Table:
        if (self.task == "multilabel") == bool(self.label):
            raise ValueError(
                f"label={self.label!r} with task={self.task!r}: a multilabel task names its 0/1 "
                "columns under labels, every other task names one column under label."
            )
        if self.task == "multilabel" and not self.labels:
            raise ValueError("labels=(): a multilabel task names its 0/1 columns there.")
        if not self.numeric + self.categorical:
            raise ValueError("numeric=() and categorical=(): name the columns to learn from.")
        named = [*self.numeric, *self.categorical, *self._not_inputs()]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"columns {twice} have two roles; a column has one.")
        strange = sorted(set(self.categories) - set(self.categorical))
        if strange:
            raise ValueError(f"categories names {strange}, categorical does not; add them there.")
        return self

    def load(self, folder: Path | None = None) -> Dataset:
        """The data set; ``path`` may be relative to ``folder``.

        Raises:
          DataNotFound: no such file.
          ValueError: a column is missing or holds something else than described.
        """
        path = user_path(self.path, folder)
        frame = self._read(path)
        encoding = self._encoding(frame)
        complete = encoding.complete(frame)
        if self.missing == "refuse" and not complete.all():
            raise ValueError(
                f"{path}: {encoding.told_missing(frame)}. Fill them, or set data.missing: drop or "
                "indicate."
            )
        if self.missing == "drop":
            frame = frame[complete].reset_index(drop=True)
        if frame.empty:
            raise ValueError(
                f"{path} has no row left: {len(complete)} were read, {int((~complete).sum())} have "
                f"a missing value, and missing={self.missing!r}."
            )
        targets, task = self._targets(frame)
        owners = None if self.owner is None else owner_ids(_texts(frame, self.owner))
        groups = None if self.group is None else group_names(_texts(frame, self.group))
        everything = Split(encoding.encode(frame), targets, owners, groups)
        names = None if self.split is None else _texts(frame, self.split)
        splits = by_split(everything, names, where=f"column {self.split!r}")
        return Dataset(
            name=self.name,
            task=task,
            splits=hold_out(
                splits,
                task,
                name=self.name,
                val_fraction=self.val_fraction,
                test_fraction=self.test_fraction,
            ),
            features=encoding.features(),
            provenance=own_provenance([file_entry(path)], self.licence, self.declared)
            | {"rows_dropped": int(len(complete) - len(frame))},
        )

    def _not_inputs(self) -> list[str]:
        targets = list(self.labels) if self.task == "multilabel" else [self.label]
        return [*targets, *(name for name in (self.owner, self.split) if name is not None)]

    def _read(self, path: Path) -> pd.DataFrame:
        import pandas as pd

        columns = [*self.numeric, *self.categorical, *self._not_inputs()]
        if self.group is not None and self.group not in columns:
            columns.append(self.group)
        suffixes = [suffix.lower() for suffix in path.suffixes]
        is_parquet = suffixes[-1:] == [".parquet"]
        if not is_parquet and ".csv" not in suffixes[-2:]:
            raise ValueError(f"path={self.path!r}: a table is a .csv, .csv.gz or .parquet file.")
        try:
            if is_parquet:
                frame = pd.read_parquet(path)
            else:
                frame = pd.read_csv(
                    path, dtype=str, keep_default_na=False, na_values=list(self.missing_values)
                )
        except (ValueError, OSError, EOFError, zlib.error) as error:
            what = "a parquet" if is_parquet else "a UTF-8 CSV"
            raise ValueError(f"{path} cannot be read as {what} file: {error}") from error
        absent = [name for name in columns if name not in frame.columns]
        if absent:
            raise ValueError(
                f"{path} has no columns {absent}; it has {[str(name) for name in frame.columns]}."
            )
        if frame.empty:
            raise ValueError(f"{path} has no rows, only column names.")
        return frame[columns]

    def _encoding(self, frame: pd.DataFrame) -> TableEncoding:
        found = {
            name: [text for text in category_texts(frame[name]) if text is not None]
            for name in self.categorical
        }
        return TableEncoding(
            numeric=self.numeric,
            categorical=tuple(
                (
                    name,
                    order_labels(
                        found[name], self.categories.get(name, ()), where=f"column {name!r}"
                    ),
                )
                for name in self.categorical
            ),
            drop_first=self.drop_first,
            missing=self.missing,
        )

    def _targets(self, frame: pd.DataFrame) -> tuple[np.ndarray, Task]:
        kind = TaskKind(self.task)
        if kind is TaskKind.MULTILABEL:
            columns = [_numbers(frame, name) for name in self.labels]
            targets = np.stack(columns, axis=1)
            if not np.isin(targets, (0, 1)).all():
                raise ValueError(f"columns {list(self.labels)} must hold 0 and 1 only.")
            return targets.astype(np.int64), Task(kind, self.labels)
        if kind is TaskKind.REGRESSION:
            return _numbers(frame, self.label).astype(np.float32), Task(kind, (self.label,))
        return class_targets(
            _texts(frame, self.label).tolist(), kind, self.labels, where=f"column {self.label!r}"
        )


def _numbers(frame: pd.DataFrame, name: str) -> np.ndarray:
    _check_full(frame, name)
    return numbers(frame[name], name)


def _texts(frame: pd.DataFrame, name: str) -> np.ndarray:
    """(n,) texts of a column that may not miss a value."""
    _check_full(frame, name)
    return np.array([text for text in category_texts(frame[name]) if text is not None], dtype=str)


def _check_full(frame: pd.DataFrame, name: str) -> None:
    missing = np.flatnonzero(frame[name].isna().to_numpy())
    if len(missing):
        raise ValueError(
            f"column {name!r} has no value in {len(missing)} rows, the first is row "
            f"{int(missing[0])}. Fill it, or remove these rows from the file."
        )
