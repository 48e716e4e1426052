"""How tables are scaled before they are shared out."""

from __future__ import annotations

import numpy as np

from fedcore.data.dataset import Dataset
from fedcore.federation import CENTRAL
from fedcore.models.preprocess import TablePreprocess
from fedcore.partition.partition import Partition


def standardisers(scope: str, dataset: Dataset, partition: Partition) -> dict[str, TablePreprocess]:
    """Client id (and ``_central``) -> scaling of a table by training rows.

    A column without spread is only centred.

    Args:
      scope: ``client``: each by its own rows, ``_central`` (samples of no known client) by all
        clients'. ``federation``: everyone by all clients' rows. ``none``: no scaling.
    """
    inputs = dataset.splits["train"].inputs
    held = partition.indices["train"]

    def scaling(rows: np.ndarray) -> TablePreprocess:
        values = inputs[rows].astype(np.float64)
        std = (float(v) or 1.0 for v in values.std(axis=0))
        return TablePreprocess(tuple(float(v) for v in values.mean(axis=0)), tuple(std))

    if scope == "none":
        return dict.fromkeys((*partition.clients, CENTRAL), TablePreprocess())
    shared = scaling(np.sort(np.concatenate([held[client] for client in partition.clients])))
    each = {c: scaling(held[c]) if scope == "client" else shared for c in partition.clients}
    return {CENTRAL: shared, **each}
