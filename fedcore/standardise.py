"""How tables are scaled before they are shared out."""

from __future__ import annotations

from fedcore.data.dataset import Dataset
from fedcore.federation import CENTRAL
from fedcore.models.preprocess import TablePreprocess
from fedcore.moments import merged, moments, standardiser
from fedcore.partition.partition import Partition


def standardisers(scope: str, dataset: Dataset, partition: Partition) -> dict[str, TablePreprocess]:
    """Client id (and ``_central``) -> scaling of a table by training rows.

    A column without spread is only centred. What all clients share is merged from each one's own
    moments in client-id order: a federation whose rows never meet computes the same bits.

    Args:
      scope: ``client``: each by its own rows, ``_central`` (samples of no known client) by all
        clients'. ``federation``: everyone by all clients' rows. ``none``: no scaling.
    """
    inputs = dataset.splits["train"].inputs
    held = partition.indices["train"]
    if scope == "none":
        return dict.fromkeys((*partition.clients, CENTRAL), TablePreprocess())
    own = {client: moments(inputs[held[client]]) for client in partition.clients}
    shared = standardiser(merged(own.values()))
    each = {
        client: standardiser(own[client]) if scope == "client" else shared
        for client in partition.clients
    }
    return {CENTRAL: shared, **each}
