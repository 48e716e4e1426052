"""A user's own table: CSV, JSON lines, parquet or a saved data set, its columns by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from fedcore.data.dataset import Dataset, Split
from fedcore.data.encoding import Missing, TableEncoding, category_texts
from fedcore.data.files import user_path
from fedcore.data.frame import check_label, names_in, read_frame, split_names, targets_of
from fedcore.data.groups import group_names
from fedcore.data.own import (
    DataPath,
    Declared,
    Labels,
    Licence,
    Name,
    by_split,
    file_entry,
    order_labels,
    own_provenance,
)
from fedcore.data.owners import owner_ids
from fedcore.data.splits import TestFraction, ValFraction, hold_out
from fedcore.settings import Settings
from fedcore.task import TaskKind

if TYPE_CHECKING:
    import pandas as pd


class Table(Settings, title="Own table"):
    """Your own table (CSV, JSON lines, parquet, a `datasets` folder), one row per sample."""

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
        check_label(self.task, self.label, self.labels)
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
        columns = [*self.numeric, *self.categorical, *self._not_inputs()]
        columns += [] if self.group is None else [self.group]
        frame, of_file = read_frame(path, dict.fromkeys(columns, self.missing_values))
        encoding = self._encoding(frame)
        complete = encoding.complete(frame)
        if self.missing == "refuse" and not complete.all():
            raise ValueError(
                f"{path}: {encoding.told_missing(frame)}. Fill them, or set data.missing: drop or "
                "indicate."
            )
        if self.missing == "drop":
            frame = frame[complete].reset_index(drop=True)
            of_file = None if of_file is None else of_file[complete]
        if frame.empty:
            raise ValueError(
                f"{path} has no row left: {len(complete)} were read, {int((~complete).sum())} have "
                f"a missing value, and missing={self.missing!r}."
            )
        targets, task = targets_of(frame, TaskKind(self.task), self.label, self.labels)
        owners = None if self.owner is None else owner_ids(names_in(frame, self.owner))
        groups = None if self.group is None else group_names(names_in(frame, self.group))
        everything = Split(encoding.encode(frame), targets, owners, groups)
        names, where = split_names(frame, self.split, of_file)
        splits = by_split(everything, names, where=where)
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
