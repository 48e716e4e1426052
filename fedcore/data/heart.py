"""UCI heart disease: four hospitals that collected the same columns, a natural federation.

Janosi, Steinbrunn, Pfisterer, Detrano, Heart Disease, UCI Machine Learning Repository, 1988,
https://doi.org/10.24432/C52P4X. Rows, columns and the split follow FLamby (Ogier du Terrail et
al., NeurIPS 2022, Fed-Heart-Disease; https://arxiv.org/abs/2210.04620), so that results compare.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, field_validator

from fedcore.data.checksum import verify_checksum
from fedcore.data.dataset import SPLITS, Dataset, Split
from fedcore.data.encoding import TableEncoding, numbers
from fedcore.data.files import find_or_download, search_folders
from fedcore.data.splits import ValFraction, declared_sizes, hold_out
from fedcore.settings import Settings
from fedcore.task import Task, TaskKind

if TYPE_CHECKING:
    import pandas as pd

URL = "https://archive.ics.uci.edu/ml/machine-learning-databases/heart-disease/"
COLUMNS = (
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
    "num",
)
# Columns 10 to 12 (slope, ca, thal) are missing in most rows outside Cleveland: not used.
ENCODING = TableEncoding(
    numeric=("age", "sex", "trestbps", "chol", "fbs", "thalach", "exang", "oldpeak"),
    categorical=(("cp", ("1", "2", "3", "4")), ("restecg", ("0", "1", "2"))),
    drop_first=True,
    missing="drop",
)
TRAIN_FRACTION, SPLIT_SEED = 0.66, 43

OLD = 60  # years from which a patient is of the group 60-and-over

HospitalName = Literal["cleveland", "hungary", "switzerland", "va"]


@dataclass(frozen=True)
class Hospital:
    """One hospital's file.

    Attributes:
      owner: its id.
      file: the published file.
      md5: its published checksum.
      sizes: training and test rows once incomplete rows are dropped, as FLamby publishes them.
    """

    owner: str
    file: str
    md5: str
    sizes: tuple[int, int]


HOSPITALS = (
    Hospital(
        "cleveland", "processed.cleveland.data", "2d91a8ff69cfd9616aa47b59d6f843db", (199, 104)
    ),
    Hospital("hungary", "processed.hungarian.data", "22e96bee155b5973568101c93b3705f6", (172, 89)),
    Hospital(
        "switzerland", "processed.switzerland.data", "9a87f7577310b3917730d06ba9349e20", (30, 16)
    ),
    Hospital("va", "processed.va.data", "4249d03ca7711e84f4444768c9426170", (85, 45)),
)


class HeartDisease(Settings, title="Heart disease"):
    """Heart disease at Cleveland, Hungary, Switzerland and VA Long Beach: 740 complete rows."""

    kind: Literal["heart_disease"] = "heart_disease"
    missing: Literal["drop"] = Field(
        default="drop", description="Rows with a missing value are left out, as FLamby does."
    )
    val_fraction: ValFraction = 0.0
    hospitals: tuple[HospitalName, ...] = Field(
        default=("cleveland", "hungary", "switzerland", "va"),
        min_length=1,
        max_length=4,
        description="Whose rows are loaded, in the published order whatever order is given: all "
        "four hospitals', or a site's own. Files of the others are not looked for.",
    )
    group: Literal["age", "sex"] | None = Field(
        default=None,
        description="Groups of patients for privacy.groups, by age (under-60, 60-and-over) or sex "
        "(women, men).",
    )
    download: bool = Field(
        default=True, description="Fetch the files (40 kB in all) that are not found locally."
    )

    @field_validator("hospitals")
    @classmethod
    def _in_published_order(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError(f"hospitals={list(names)} names one twice; name each once.")
        return tuple(hospital.owner for hospital in HOSPITALS if hospital.owner in names)

    def load(self, folder: Path | None = None) -> Dataset:
        """The data set from ``folder/heart``, or its publisher; owners are the hospitals.

        Each hospital's rows and their split do not depend on which others are loaded.

        Raises:
          DataNotFound, ChecksumMismatch, ValueError: as all sources of files.
        """
        folders = search_folders(folder, "heart")
        task = Task(TaskKind.BINARY, ("no disease", "disease"))
        parts: dict[str, list[Split]] = {}
        files = []
        chosen = [hospital for hospital in HOSPITALS if hospital.owner in self.hospitals]
        for hospital in chosen:
            path = find_or_download(
                [hospital.file],
                folders,
                url=f"{URL}{hospital.file}",
                checksum=hospital.md5,
                may_download=self.download,
            )
            files.append(verify_checksum(path, hospital.md5))
            frame = read_hospital(path)
            groups = None if self.group is None else _GROUPS[self.group](frame)
            official = _split(frame, hospital.owner, groups)
            name = f"heart_disease {hospital.owner}"
            held = hold_out(official, task, name=name, val_fraction=self.val_fraction)
            for split, part in held.items():
                parts.setdefault(split, []).append(part)
        return Dataset(
            name="heart-disease",
            task=task,
            splits={split: _joined(several) for split, several in parts.items()},
            features=ENCODING.features(),
            provenance={
                "source": URL,
                "licence": "CC BY 4.0",
                "files": files,
                "declared": _declared(chosen, self.val_fraction),
            },
        )


def read_hospital(path: Path) -> pd.DataFrame:
    """Complete rows of one file: the ten raw columns and ``num``, as numbers."""
    import pandas as pd

    raw = pd.read_csv(path, header=None, names=list(COLUMNS), dtype=str, na_values=["?"])
    used = pd.DataFrame({name: numbers(raw[name], name) for name in (*COLUMNS[:10], COLUMNS[13])})
    return used.dropna().reset_index(drop=True)


_GROUPS: dict[str, Callable[[pd.DataFrame], np.ndarray]] = {
    "age": lambda frame: np.where(frame["age"] < OLD, f"under-{OLD}", f"{OLD}-and-over"),
    "sex": lambda frame: np.where(frame["sex"] == 1, "men", "women"),
}


def _split(frame: pd.DataFrame, owner: str, groups: np.ndarray | None) -> dict[str, Split]:
    """FLamby's split of one hospital; rows keep the file's order."""
    from sklearn.model_selection import train_test_split

    targets = (frame["num"].to_numpy() > 0).astype(np.int64)
    # Too few of a class (Switzerland has one healthy row) cannot be stratified.
    stratify = targets if np.bincount(targets, minlength=2).min() > 2 else None
    train, test = train_test_split(
        np.arange(len(frame)),
        train_size=TRAIN_FRACTION,
        test_size=1.0 - TRAIN_FRACTION,
        random_state=SPLIT_SEED,
        stratify=stratify,
    )
    everything = Split(ENCODING.encode(frame), targets, np.full(len(frame), owner), groups)
    return {"train": everything.take(np.sort(train)), "test": everything.take(np.sort(test))}


def _joined(parts: list[Split]) -> Split:
    groups = [part.groups for part in parts if part.groups is not None]
    return Split(
        np.concatenate([part.inputs for part in parts]),
        np.concatenate([part.targets for part in parts]),
        np.concatenate([part.owners for part in parts if part.owners is not None]),
        np.concatenate(groups) if groups else None,
    )


def _declared(chosen: Sequence[Hospital], val_fraction: float) -> dict[str, int]:
    total: Counter[str] = Counter()
    for hospital in chosen:
        train, test = hospital.sizes
        total.update(declared_sizes({"train": train, "test": test}, val_fraction=val_fraction))
    return {split: total[split] for split in SPLITS if split in total}
