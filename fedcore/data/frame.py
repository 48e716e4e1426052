"""Rows of a user's own file as a DataFrame, and their targets: for tables and texts alike."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedcore.data.encoding import category_texts, numbers
from fedcore.data.huggingface import read_saved
from fedcore.data.own import class_targets
from fedcore.task import TEXTS, Task, TaskKind

if TYPE_CHECKING:
    import pandas as pd

_KINDS = {".csv": "a UTF-8 CSV", ".jsonl": "a UTF-8 JSON lines", ".parquet": "a parquet"}


def read_frame(
    path: Path, columns: Mapping[str, Sequence[str]]
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """The columns of a file, and (n,) names of the splits where the file itself has splits.

    CSV and JSON lines, plain or gzip; parquet; a folder that ``datasets`` has saved, whose class
    labels become their names. Values of a CSV are texts.

    Args:
      columns: name -> texts that mean a missing value there, in a CSV.

    Raises:
      ValueError: another kind of file, one that cannot be read, that lacks a column or has no rows.
    """
    frame, splits = _read(path, columns)
    absent = [name for name in columns if name not in frame.columns]
    if absent:
        raise ValueError(
            f"{path} has no columns {absent}; it has {[str(name) for name in frame.columns]}."
        )
    if frame.empty:
        raise ValueError(f"{path} has no rows, only column names.")
    return frame[list(columns)], splits


def targets_of(
    frame: pd.DataFrame, kind: TaskKind, label: str, labels: Sequence[str]
) -> tuple[np.ndarray, Task]:
    """The targets as :class:`fedcore.task.TaskKind` has them, and the task.

    Args:
      label: column of the label or quantity.
      labels: by index; multilabel: the 0/1 columns.

    Raises:
      ValueError: a value is missing, unknown or no number.
    """
    if kind is TaskKind.LANGUAGE:
        return np.zeros(len(frame), dtype=np.int64), Task(kind, TEXTS)
    if kind is TaskKind.MULTILABEL:
        columns = [_numbers(frame, name) for name in labels]
        targets = np.stack(columns, axis=1)
        if not np.isin(targets, (0, 1)).all():
            raise ValueError(f"columns {list(labels)} must hold 0 and 1 only.")
        return targets.astype(np.int64), Task(kind, tuple(labels))
    if kind is TaskKind.REGRESSION:
        return _numbers(frame, label).astype(np.float32), Task(kind, (label,))
    return class_targets(
        names_in(frame, label).tolist(), kind, tuple(labels), where=f"column {label!r}"
    )


def check_label(task: str, label: str, labels: Sequence[str]) -> None:
    """Refuses a choice of label columns that does not go with the task.

    Raises:
      ValueError: a multilabel or language task that names one column, or another that names none.
    """
    if task == "language":
        if label or labels:
            raise ValueError(
                f"label={label!r} and labels={list(labels)} with task='language': the texts "
                'themselves are learned. Leave both empty (label: "").'
            )
        return
    if (task == "multilabel") == bool(label):
        raise ValueError(
            f"label={label!r} with task={task!r}: a multilabel task names its 0/1 columns under "
            "labels, every other task names one column under label."
        )
    if task == "multilabel" and not labels:
        raise ValueError("labels=(): a multilabel task names its 0/1 columns there.")


def split_names(
    frame: pd.DataFrame, column: str | None, of_file: np.ndarray | None
) -> tuple[np.ndarray | None, str]:
    """(n,) texts ``train``, ``val`` or ``test``, None where nobody says; and where they are from.

    Args:
      column: that says it.
      of_file: what the file itself says.

    Raises:
      ValueError: both say it, or a row of the column is empty.
    """
    if column is None:
        return of_file, "the folder"
    if of_file is not None:
        raise ValueError(
            f"split={column!r} names a column, but the folder has splits of its own, "
            f"{np.unique(of_file).tolist()}. Leave split out."
        )
    return names_in(frame, column), f"column {column!r}"


def names_in(frame: pd.DataFrame, column: str) -> np.ndarray:
    """(n,) texts of a column that may not miss a value, whole numbers without decimals."""
    _check_full(frame, column)
    return np.array([text for text in category_texts(frame[column]) if text is not None], dtype=str)


def _read(
    path: Path, columns: Mapping[str, Sequence[str]]
) -> tuple[pd.DataFrame, np.ndarray | None]:
    import pandas as pd

    if path.is_dir():
        return read_saved(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    is_packed = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[-2:-1] if is_packed else suffixes[-1:])
    if suffix not in _KINDS or (is_packed and suffix == ".parquet"):
        raise ValueError(
            f"path={path.name!r}: a table is a .csv, .csv.gz, .jsonl, .jsonl.gz or .parquet file, "
            "or a folder that `datasets` has saved."
        )
    try:
        if suffix == ".parquet":
            return pd.read_parquet(path), None
        if suffix == ".jsonl":
            # As written: no guesses at dates, no numbers from texts.
            return pd.read_json(path, lines=True, dtype=False), None
        missing = {name: list(values) for name, values in columns.items()}
        return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=missing), None
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as {_KINDS[suffix]} file: {error}") from error


def _numbers(frame: pd.DataFrame, name: str) -> np.ndarray:
    _check_full(frame, name)
    return numbers(frame[name], name)


def _check_full(frame: pd.DataFrame, name: str) -> None:
    missing = np.flatnonzero(frame[name].isna().to_numpy())
    if len(missing):
        raise ValueError(
            f"column {name!r} has no value in {len(missing)} rows, the first is row "
            f"{int(missing[0])}. Fill it, or remove these rows from the file."
        )
