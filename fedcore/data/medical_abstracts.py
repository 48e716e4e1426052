"""Medical Abstracts: conditions of patients, five classes; the 2888 rows of its test file.

Schopf, Braun, Matthes, Evaluating Unsupervised Text Classification: Zero-shot and
Similarity-based Approaches, NLPIR 2022, https://doi.org/10.1145/3582768.3582795

Only 2770 of the texts are distinct: 113 occur two or three times, each time with another label.
Folds therefore go by text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from fedcore.data.checksum import verify_checksum
from fedcore.data.dataset import Dataset, Split
from fedcore.data.files import find_or_download, search_folders
from fedcore.data.folds import assign_folds
from fedcore.data.same_text import normalised, same_texts
from fedcore.data.splits import Limit, ValFraction, hold_out, limited
from fedcore.data.text_bytes import MostBytes, pack, unpack
from fedcore.settings import Settings
from fedcore.task import Task, TaskKind

# The commit that published both files.
URL = (
    "https://raw.githubusercontent.com/sebischair/Medical-Abstracts-TC-Corpus/"
    "547596568102fe3ec008d94a486fd7f55876c433/"
)
TEXTS, LABELS = "medical_tc_test.csv", "medical_tc_labels.csv"
# Of the files of that commit; the source publishes no sums.
MD5 = {
    TEXTS: "98978fd21c156efe960d901451161817",
    LABELS: "77e5f74d409bcc8b08495c2b743fc7fc",
}
FOLDS = 5


class MedicalAbstracts(Settings, title="Medical abstracts"):
    """2888 medical abstracts of five conditions, as five folds that go by text."""

    kind: Literal["medical_abstracts"] = "medical_abstracts"
    fold: int = Field(
        default=0,
        ge=0,
        lt=FOLDS,
        description="Which of the five folds is the test split; the others are for training.",
    )
    val_fraction: ValFraction = 0.0
    most_bytes: MostBytes = 4096
    download: bool = Field(
        default=True, description="Fetch the files (3.6 MB) that are not found locally."
    )
    limit: Limit = None

    def load(self, folder: Path | None = None) -> Dataset:
        """The data set from ``folder/text/medical_abstracts``, or its publisher.

        All rows of one text, case and white space aside, are in the same split.

        Raises:
          DataNotFound, ChecksumMismatch, ValueError: as all sources of files.
        """
        paths = {name: self._find(name, folder) for name in (TEXTS, LABELS)}
        files = [verify_checksum(path, MD5[name]) for name, path in paths.items()]
        task, everything = _read(paths[TEXTS], paths[LABELS], self.most_bytes)
        texts = unpack(everything.inputs)
        folds = assign_folds(
            [normalised(text) for text in texts], everything.targets, FOLDS, "medical abstracts"
        )
        train, test = (np.flatnonzero(at) for at in (folds != self.fold, folds == self.fold))
        splits = hold_out(
            {"train": everything.take(train), "test": everything.take(test)},
            task,
            name=f"medical abstracts {self.fold}",
            val_fraction=self.val_fraction,
            together=same_texts(texts)[train],
        )
        return Dataset(
            name="medical-abstracts",
            task=task,
            splits=limited(splits, self.limit),
            features={"kind": "text", "most_bytes": self.most_bytes},
            provenance={"source": URL, "licence": "CC BY-SA 3.0", "files": files},
        )

    def _find(self, name: str, folder: Path | None) -> Path:
        return find_or_download(
            [name],
            search_folders(folder, "text/medical_abstracts"),
            url=f"{URL}{name}",
            checksum=MD5[name],
            may_download=self.download,
        )


def _read(texts: Path, labels: Path, most_bytes: int) -> tuple[Task, Split]:
    """The task with the published names, and all rows in the file's order."""
    names = _csv(labels, ("condition_label", "condition_name"))
    rows = _csv(texts, ("condition_label", "medical_abstract"))
    index = {label: at for at, label in enumerate(names["condition_label"])}
    unknown = sorted(set(rows["condition_label"]) - set(index))
    if unknown:
        raise ValueError(f"{texts} has labels {unknown} that {labels.name} does not name.")
    targets = np.array([index[label] for label in rows["condition_label"]], dtype=np.int64)
    task = Task(TaskKind.MULTICLASS, tuple(names["condition_name"]))
    return task, Split(pack(rows["medical_abstract"].tolist(), most_bytes), targets)


def _csv(path: Path, columns: tuple[str, str]) -> Any:
    import pandas as pd

    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(frame.columns) != columns:
        raise ValueError(
            f"{path} has columns {list(frame.columns)}; expected {list(columns)}. Get the official "
            "file."
        )
    return frame
