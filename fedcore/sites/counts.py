"""Who holds how much, as the sites said it: a table and a picture for the people of the run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedcore.partition.picture import class_picture
from fedcore.sites.description import Description

if TYPE_CHECKING:
    import pandas as pd


def counts_parquet(sites: Sequence[Description]) -> bytes:
    """A parquet table of client, split and number of samples that take part; names of rows stay at
    the sites."""
    import pandas as pd

    rows = [(one.client, split, count) for one in sites for split, count in one.sizes.items()]
    buffer = io.BytesIO()
    pd.DataFrame(rows, columns=["client", "split", "samples"]).to_parquet(buffer, index=False)
    return buffer.getvalue()


def counts_picture(sites: Sequence[Description]) -> bytes:
    """PNG: sizes of the sites over a heat map of their label mix (regression: one column)."""
    first = sites[0]
    title = f"{first.dataset}, train: {len(sites)} sites"
    return class_picture(_table(sites), [one.sizes["train"] for one in sites], title)


def _table(sites: Sequence[Description]) -> pd.DataFrame:
    import pandas as pd

    labels = list(sites[0].task.labels) if sites[0].train_labels else ["samples"]
    counts = [one.train_labels or (one.sizes["train"],) for one in sites]
    return pd.DataFrame(counts, index=[one.client for one in sites], columns=labels)
