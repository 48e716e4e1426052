"""Check of the splits' sizes against those that the source declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fedcore.audit.finding import Finding

if TYPE_CHECKING:
    import pandas as pd


def check_split_sizes(table: pd.DataFrame, *, declared: Mapping[str, int]) -> tuple[Finding, ...]:
    """Every declared split has as many samples as its source says; undeclared ones pass."""
    sizes = table["split"].value_counts()
    found = []
    for split, due in declared.items():
        size = int(sizes.get(split, 0))
        if size != due:
            message = f"{split} has {size} samples; its source declares {due}."
            found.append(Finding("split-sizes", "error", (split,), abs(size - due), message))
    return tuple(found)
