"""The tables that scikit-learn ships inside its package: digits (the default) and breast cancer.

Digits: 1797 handwritten digits of 8 x 8 pixels, 0 to 16 (UCI Optical Recognition of Handwritten
Digits, test part). Breast cancer: 569 rows of 30 measurements (UCI Breast Cancer Wisconsin
Diagnostic). Neither needs a file or a network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from fedcore.data.dataset import Dataset, Split
from fedcore.data.encoding import TableEncoding
from fedcore.data.splits import (
    Limit,
    TestFraction,
    ValFraction,
    declared_sizes,
    hold_out,
    limited,
)
from fedcore.settings import Settings
from fedcore.task import Task, TaskKind


class Digits(Settings):
    """Handwritten digits as tables of 64 pixels, 10 classes, 1797 rows; ships with scikit-learn."""

    kind: Literal["digits"] = "digits"
    test_fraction: TestFraction = 0.2
    val_fraction: ValFraction = 0.1
    limit: Limit = None

    def load(self, folder: Path | None = None) -> Dataset:
        """The data set; ``folder`` is not looked at."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return _table(
            self,
            bunch,
            names=tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8)),
            task=Task(TaskKind.MULTICLASS, tuple(str(digit) for digit in range(10))),
            num_rows=1797,
            source="https://archive.ics.uci.edu/dataset/80",
        )


class BreastCancer(Settings, title="Breast cancer"):
    """30 measurements of cell nuclei, malignant or benign, 569 rows; ships with scikit-learn."""

    kind: Literal["breast_cancer"] = "breast_cancer"
    test_fraction: TestFraction = 0.2
    val_fraction: ValFraction = 0.1
    limit: Limit = None

    def load(self, folder: Path | None = None) -> Dataset:
        """The data set; ``folder`` is not looked at."""
        from sklearn.datasets import load_breast_cancer

        bunch = load_breast_cancer()
        return _table(
            self,
            bunch,
            names=tuple(str(name).replace(" ", "_") for name in bunch.feature_names),
            task=Task(TaskKind.BINARY, ("malignant", "benign")),
            num_rows=569,
            source="https://archive.ics.uci.edu/dataset/17",
        )


def _table(
    settings: Digits | BreastCancer,
    bunch: Any,
    *,
    names: tuple[str, ...],
    task: Task,
    num_rows: int,
    source: str,
) -> Dataset:
    from sklearn import __version__

    everything = Split(bunch.data.astype(np.float32), bunch.target.astype(np.int64))
    splits = hold_out(
        {"train": everything},
        task,
        name=settings.kind,
        val_fraction=settings.val_fraction,
        test_fraction=settings.test_fraction,
    )
    return Dataset(
        name=settings.kind.replace("_", "-"),
        task=task,
        splits=limited(splits, settings.limit),
        features=TableEncoding(numeric=names).features(),
        provenance={
            "source": source,
            "licence": "CC BY 4.0",
            "files": [],
            "package": f"scikit-learn {__version__}",
            "declared": declared_sizes(
                {"train": num_rows},
                val_fraction=settings.val_fraction,
                test_fraction=settings.test_fraction,
                limit=settings.limit,
            ),
        },
    )
