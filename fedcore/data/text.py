"""A user's own texts: one column of a file, another one their label, or their prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from fedcore.data.dataset import Dataset, Split
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
    own_provenance,
)
from fedcore.data.owners import owner_ids
from fedcore.data.prompted import check_separator, join
from fedcore.data.same_text import same_texts
from fedcore.data.splits import TestFraction, ValFraction, hold_out
from fedcore.data.text_bytes import MostBytes, pack, unpack
from fedcore.settings import Settings
from fedcore.task import TaskKind

if TYPE_CHECKING:
    import pandas as pd


class Text(Settings, title="Own texts"):
    """Your own texts (CSV, JSON lines, parquet, a `datasets` folder), one row per text."""

    kind: Literal["text"] = "text"
    name: Name = "texts"
    path: DataPath
    task: Literal["binary", "multiclass", "multilabel", "ordinal", "regression", "language"] = (
        Field(
            default="multiclass",
            description="What is predicted; language: the texts themselves, token by token.",
        )
    )
    text: str = Field(
        default="text",
        min_length=1,
        description="Column of the text; where there is a prompt, of the response.",
    )
    prompt: str | None = Field(
        default=None,
        description="Language: column of what comes before each text. It is read, not learned.",
    )
    label: str = Field(
        default="label",
        description="Column of the label or quantity; empty for multilabel and language.",
    )
    labels: Labels = Field(
        default=(),
        description="Labels by index; binary: negative, positive; multilabel: its 0/1 columns. "
        "Empty: the values found, sorted.",
    )
    most_bytes: MostBytes = 4096
    missing_values: tuple[str, ...] = Field(
        default=("", "NA", "NaN", "?"),
        description="Texts in a CSV that mean a missing label, owner or split. A text may be "
        "empty, which the audit finds.",
    )
    owner: str | None = Field(
        default=None, description="Column of the owner of each text: the natural clients."
    )
    group: str | None = Field(
        default=None,
        description="Column of the group of persons of each text, for privacy.groups.",
    )
    split: str | None = Field(
        default=None,
        description="Column that says train, val or test; splits it lacks are drawn. A `datasets` "
        "folder may have splits of its own.",
    )
    test_fraction: TestFraction = 0.2
    val_fraction: ValFraction = 0.1
    declared: Declared = Field(default_factory=dict)
    licence: Licence = ""

    @model_validator(mode="after")
    def _columns_make_sense(self) -> Text:
        check_label(self.task, self.label, self.labels)
        if self.prompt is not None and self.task != "language":
            raise ValueError(
                f"prompt={self.prompt!r} with task={self.task!r}: prompts are of a language task. "
                "Set task: language and label empty, or leave prompt out."
            )
        named = [*self._texts(), *self._beside()]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"columns {twice} have two roles; a column has one.")
        return self

    def load(self, folder: Path | None = None) -> Dataset:
        """The data set; ``path`` may be relative to ``folder``.

        Splits that are drawn go by text: rows with the same text, case and white space aside, are
        all in one of them.

        Raises:
          DataNotFound: no such file.
          ValueError: a column is missing or holds something else than described.
        """
        path = user_path(self.path, folder)
        beside = [*self._beside(), *([] if self.group is None else [self.group])]
        columns = {**dict.fromkeys(self._texts(), ()), **dict.fromkeys(beside, self.missing_values)}
        frame, of_file = read_frame(path, columns)
        targets, task = targets_of(frame, TaskKind(self.task), self.label, self.labels)
        owners = None if self.owner is None else owner_ids(names_in(frame, self.owner))
        groups = None if self.group is None else group_names(names_in(frame, self.group))
        inputs = pack(self._written(frame), self.most_bytes)
        everything = Split(inputs, targets, owners, groups)
        names, where = split_names(frame, self.split, of_file)
        splits = by_split(everything, names, where=where)
        train = splits.get("train")
        return Dataset(
            name=self.name,
            task=task,
            splits=hold_out(
                splits,
                task,
                name=self.name,
                val_fraction=self.val_fraction,
                test_fraction=self.test_fraction,
                together=None if train is None else same_texts(unpack(train.inputs)),
            ),
            features={"kind": "text", "most_bytes": self.most_bytes}
            | ({} if self.prompt is None else {"prompted": True}),
            provenance=own_provenance([file_entry(path)], self.licence, self.declared),
        )

    def _texts(self) -> list[str]:
        """Columns of what a model reads."""
        return [self.text] if self.prompt is None else [self.prompt, self.text]

    def _written(self, frame: pd.DataFrame) -> list[str]:
        """What a model reads of each row."""
        texts = texts_of(frame, self.text)
        if self.prompt is not None:
            return join(texts_of(frame, self.prompt), texts, self.most_bytes)
        if self.task == "language":
            check_separator("text", texts)
        return texts

    def _beside(self) -> list[str]:
        """Columns that are not the text."""
        targets = list(self.labels) if self.task == "multilabel" else [self.label]
        return [
            *filter(None, targets),
            *(name for name in (self.owner, self.split) if name is not None),
        ]


def texts_of(frame: pd.DataFrame, name: str) -> list[str]:
    """The texts of a column; empty where nothing is there."""
    texts = [
        "" if missing else text
        for text, missing in zip(frame[name], frame[name].isna(), strict=True)
    ]
    strange = [row for row, text in enumerate(texts) if not isinstance(text, str)]
    if strange:
        raise ValueError(
            f"column {name!r}, row {strange[0]}: a {type(texts[strange[0]]).__name__} is no text. "
            "Name the column of the texts under text, or write it as text."
        )
    return texts
