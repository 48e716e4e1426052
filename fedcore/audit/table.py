"""The sample table: facts about each sample, which all checks read instead of the data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcore.audit.perceptual import has_perceptual_hash, perceptual_hash
from fedcore.audit.text_facts import text_facts, text_signatures
from fedcore.data.dataset import SPLITS, Dataset, Split
from fedcore.partition.partition import Partition
from fedcore.task import TaskKind

if TYPE_CHECKING:
    import pandas as pd


def sample_table(
    dataset: Dataset,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    *,
    finds_alike: bool = True,
) -> pd.DataFrame:
    """One row per sample, in the order of splits and samples.

    Columns: split; index (in its split); digest (SHA-256 of the input's bytes, or of a text as
    :func:`fedcore.data.same_text.normalised` writes it: the same for inputs that count as the
    same); label (whole number; a text of one digit per label for multilabel, other values than 0 to
    9 as ``?``; a number for regression); owner (missing where there is none); dtype and shape of
    the input. Of images and tables: minimum, maximum (NaN left out); finite; out_of_range (values
    outside their column's range). Of texts those of :func:`fedcore.audit.text_facts.text_facts`.
    For uint8 images with one or three channels also perceptual_hash (uint64), for texts signature
    (bytes of their MinHash).

    Args:
      ranges: column name -> lowest and highest value, for tables.
      finds_alike: False leaves hashes and signatures out, which take most of the time.

    Raises:
      ValueError: ``ranges`` names a column that the table does not have.
    """
    import pandas as pd

    names = list(dataset.features.get("names", ()))
    unknown = sorted(set(ranges or {}) - set(names))
    if unknown:
        raise ValueError(
            f"value_ranges names {unknown[0]!r}, which {dataset.name} does not have; "
            f"its columns are {', '.join(map(str, names)) or 'none ({dataset.kind})'}."
        )
    present = [name for name in SPLITS if name in dataset.splits]
    parts = [_rows(dataset, name, dataset.splits[name], names, ranges or {}) for name in present]
    table = pd.concat(parts, ignore_index=True)
    if finds_alike:
        inputs = [dataset.splits[name].inputs for name in present]
        for column, values in _likeness(dataset.kind, inputs).items():
            table[column] = values
    return table


def _likeness(kind: str, inputs: Sequence[np.ndarray]) -> dict[str, Any]:
    """The column by which inputs are found that are nearly the same, where there is one."""
    if kind == "text":
        return {"signature": [one.tobytes() for part in inputs for one in text_signatures(part)]}
    if all(has_perceptual_hash(part) for part in inputs):
        return {"perceptual_hash": np.concatenate([perceptual_hash(part) for part in inputs])}
    return {}


def _rows(
    dataset: Dataset,
    name: str,
    split: Split,
    names: list[str],
    ranges: Mapping[str, tuple[float, float]],
) -> pd.DataFrame:
    import pandas as pd

    inputs = split.inputs
    facts = text_facts(inputs) if dataset.kind == "text" else _number_facts(inputs, names, ranges)
    columns = {
        "split": np.full(len(split), name, dtype=object),
        "index": np.arange(len(split), dtype=np.int64),
        "digest": facts.pop("digest"),
        "label": _labels(dataset.task.kind, split.targets),
        "owner": np.full(len(split), None) if split.owners is None else split.owners.astype(object),
        "dtype": np.full(len(split), str(inputs.dtype), dtype=object),
        "shape": np.full(len(split), "x".join(map(str, inputs.shape[1:])), dtype=object),
    }
    return pd.DataFrame(columns | facts)


def _number_facts(
    inputs: np.ndarray, names: list[str], ranges: Mapping[str, tuple[float, float]]
) -> dict[str, np.ndarray]:
    """Columns of images and tables."""
    flat = inputs.reshape(len(inputs), -1)
    outside = np.zeros(len(inputs), dtype=np.int64)
    for column, (least, most) in ranges.items():
        values = flat[:, names.index(column)]
        outside += (values < least) | (values > most)
    return {
        "digest": _digests(flat),
        # Infinities count as extremes; only what is not a number is left out.
        "minimum": np.fmin.reduce(flat, axis=1).astype(np.float64),
        "maximum": np.fmax.reduce(flat, axis=1).astype(np.float64),
        "finite": np.isfinite(flat).all(axis=1),
        "out_of_range": outside,
    }


def _digests(flat: np.ndarray) -> np.ndarray:
    """(n,) SHA-256 of each row; minus zero counts as zero."""
    if flat.dtype.kind == "f":
        flat = flat + flat.dtype.type(0)
    flat = np.ascontiguousarray(flat)
    return np.array([hashlib.sha256(row).hexdigest() for row in flat], dtype=object)


def _labels(kind: TaskKind, targets: np.ndarray) -> np.ndarray:
    """(n,) the target of each sample as one value of a column."""
    if kind is not TaskKind.MULTILABEL:
        return targets
    digits = np.where((targets >= 0) & (targets <= 9), targets + ord("0"), ord("?"))
    text = np.ascontiguousarray(digits.astype(np.uint8)).view(f"S{targets.shape[1]}")
    return np.char.decode(text.reshape(-1), "ascii").astype(object)


def placement_table(
    table: pd.DataFrame, partition: Partition, dropped: Mapping[str, np.ndarray] | None = None
) -> pd.DataFrame:
    """One row per place of a sample at a client: the sample table, plus client and is_dropped.

    A sample that no client holds keeps one row without a client; a place without a sample has no
    digest.
    """
    import pandas as pd

    places = pd.DataFrame(
        [
            {"split": split, "client": client, "index": indices}
            for split, clients in partition.indices.items()
            for client, indices in clients.items()
        ]
    ).explode("index", ignore_index=True)
    places["index"] = places["index"].astype(np.int64)
    rows = table.merge(places, on=["split", "index"], how="outer", sort=False)
    rows["is_dropped"] = False
    for split, indices in (dropped or {}).items():
        rows.loc[(rows["split"] == split) & rows["index"].isin(indices), "is_dropped"] = True
    return rows
