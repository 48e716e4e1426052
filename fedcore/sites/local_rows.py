"""Which of a site's rows take part in a run, by its own audit and by what other sites hold too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedcore.audit.remedy import apply_remedy
from fedcore.audit.table import sample_table
from fedcore.data.dataset import Dataset
from fedcore.partition.partition import Partition
from fedcore.partition.settings import ByOwner
from fedcore.sites.inquiry import Inquiry, sample_hash

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LocalRows:
    """A site's data set, seen as one client's.

    Attributes:
      table: facts about every sample (:func:`fedcore.audit.table.sample_table`).
      partition: the samples that take part, all at the one client.
    """

    table: pd.DataFrame
    partition: Partition


def local_rows(
    dataset: Dataset, client: str, inquiry: Inquiry, *, finds_alike: bool = False
) -> LocalRows:
    """The rows of a site that take part.

    Args:
      client: id of the site in the run.
      finds_alike: whether the table gets what finds near duplicates, which takes most of the time.

    Raises:
      ValueError: rows of another owner, hashes to drop that no row has, or no training row left.
    """
    _require_own(dataset, client)
    table = sample_table(dataset, inquiry.audit.value_ranges, finds_alike=finds_alike)
    dropped = apply_remedy(table, inquiry.audit)
    told = _rows_of(table, inquiry)
    indices = {}
    for split, part in dataset.splits.items():
        out = [which[split] for which in (dropped, told) if split in which]
        kept = np.setdiff1d(np.arange(len(part)), np.concatenate([np.empty(0, np.int64), *out]))
        if len(kept):
            indices[split] = {client: kept.astype(np.int64)}
    if "train" not in indices:
        raise ValueError(
            f"site {client!r} has no training row left once duplicates are dropped; a client needs "
            "at least 1. Set audit.remedy to 'accept', or leave the site out of the run."
        )
    return LocalRows(table, Partition(indices, ByOwner().model_dump(mode="json"), seed=0))


def sample_hashes(table: pd.DataFrame, salt: str) -> np.ndarray:
    """(n,) the run's name of each row of a sample table."""
    return np.array([sample_hash(salt, digest) for digest in table["digest"]], dtype=object)


def _require_own(dataset: Dataset, client: str) -> None:
    """One site is one client: a joint file in the wrong place must not go unnoticed."""
    for split, part in dataset.splits.items():
        others = set() if part.owners is None else {*part.owners.astype(str).tolist()} - {client}
        if others:
            raise ValueError(
                f"site {client!r} has {split} rows of {len(others)} other owners, such as "
                f"{min(others)!r}. Load the site's own rows alone, or name the site after them."
            )


def _rows_of(table: pd.DataFrame, inquiry: Inquiry) -> Mapping[str, np.ndarray]:
    """Split -> indices of the samples that the coordinator asks to leave out."""
    rows = {}
    for split, hashes in inquiry.drop.items():
        part = table[table["split"] == split]
        names = sample_hashes(part, inquiry.salt)
        unknown = len(set(hashes) - set(names))
        if unknown:
            raise ValueError(
                f"drop names {unknown} samples of {split} that this site does not hold; "
                "the coordinator must ask about the data again, they may have changed."
            )
        rows[split] = part["index"].to_numpy(np.int64)[np.isin(names, list(hashes))]
    return rows
