"""Who holds what: each client's samples as blobs, and central data where there is any."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from fedcore.data.dataset import Dataset, Split
from fedcore.data.groups import group_sizes, groups_in, with_groups
from fedcore.partition.partition import Partition
from fedcore.refs import Ref
from fedcore.store import Store
from fedcore.task import Task, TaskKind

CENTRAL = "_central"  # no client id starts with an underscore


class Scaling(Protocol):
    """Turns raw inputs into those that are shared out."""

    def apply(self, inputs: np.ndarray) -> Any:
        """The scaled inputs, as a torch tensor."""


@dataclass(frozen=True)
class Holding:
    """One client's data, by split.

    Attributes:
      blobs: split -> blob with ``inputs`` and ``targets``, and ``groups`` where there are any.
      sizes: split -> number of samples.
      labels: number of training samples of each label (regression: empty).
      groups: group of persons -> number of training samples; empty where the data have none.
    """

    blobs: Mapping[str, Ref]
    sizes: Mapping[str, int]
    labels: tuple[int, ...]
    groups: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Holding:
        """The holding whose ``asdict`` this is."""
        blobs = {split: Ref(**ref) for split, ref in value["blobs"].items()}
        groups = value.get("groups", {})
        return Holding(blobs, value["sizes"], tuple(value["labels"]), groups)


@dataclass(frozen=True)
class Federation:
    """The clients of a run.

    Attributes:
      clients: client id -> holding.
      central: split -> blob of all its samples; only for evaluation.
      central_sizes: split -> number of samples.
    """

    clients: Mapping[str, Holding]
    central: Mapping[str, Ref]
    central_sizes: Mapping[str, int]

    @property
    def ids(self) -> tuple[str, ...]:
        """Client ids in canonical (sorted) order."""
        return tuple(sorted(self.clients))

    def with_clients(self, held: Mapping[str, Any]) -> Federation:
        """The federation with some more clients: client id -> JSON of its holding."""
        more = {client: Holding.from_json(value) for client, value in held.items()}
        return replace(self, clients={**self.clients, **more})

    def load(self, store: Store, client: str, split: str) -> Split:
        """A client's samples of one split."""
        arrays = store.get_arrays(self.clients[client].blobs[split])
        return Split(arrays["inputs"], arrays["targets"], groups=groups_in(arrays))

    def to_json(self) -> dict[str, Any]:
        """A JSON value that ``from_json`` takes back."""
        return json.loads(json.dumps(asdict(self)))

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Federation:
        """The federation that ``to_json`` described."""
        return Federation(
            {client: Holding.from_json(held) for client, held in value["clients"].items()},
            {split: Ref(**ref) for split, ref in value["central"].items()},
            value["central_sizes"],
        )


def share_out(
    dataset: Dataset, partition: Partition, store: Store, scaling: Mapping[str, Scaling]
) -> Federation:
    """Puts each client's samples of each split into the store, and the central val and test.

    Args:
      scaling: client id (and ``_central``) -> scaling of its rows; a central row is scaled as its
        client scales it, one of no client by ``_central``. Empty: nothing is scaled.

    Raises:
      ValueError: a client has no training sample.
    """
    scaled = {
        split: scaled_inputs(part.inputs, partition.indices.get(split, {}), scaling)
        for split, part in dataset.splits.items()
    }
    clients = {
        client: hold(dataset, partition, client, store, scaled) for client in partition.clients
    }
    central = {
        split: _put(Split(scaled[split], part.targets), store)
        for split, part in dataset.splits.items()
        if split != "train"
    }
    return Federation(clients, central, {split: len(dataset.splits[split]) for split in central})


def hold(
    dataset: Dataset,
    partition: Partition,
    client: str,
    store: Store,
    scaled: Mapping[str, np.ndarray],
) -> Holding:
    """Puts one client's samples of each split into the store.

    Args:
      scaled: split -> inputs as :func:`scaled_inputs` gives them.

    Raises:
      ValueError: the client has no training sample.
    """
    blobs, sizes, groups = {}, {}, {}
    for split, held in partition.indices.items():
        rows = held.get(client, np.empty(0, np.int64))
        if len(rows):
            part = replace(dataset.splits[split], inputs=scaled[split]).take(rows)
            blobs[split] = _put(part, store)
            sizes[split], groups[split] = len(rows), group_sizes(part.groups)
    if "train" not in blobs:
        raise ValueError(
            f"client {client!r} has no training sample; use fewer clients or a larger min_size."
        )
    labels = count_labels(dataset.task, dataset.splits["train"].targets, partition, client)
    return Holding(blobs, sizes, labels, groups["train"])


def count_labels(
    task: Task, targets: np.ndarray, partition: Partition, client: str
) -> tuple[int, ...]:
    """Training samples of each label at a client; empty for regression."""
    held = targets[partition.indices["train"][client]]
    if task.kind is TaskKind.REGRESSION:
        return ()
    if task.kind is TaskKind.MULTILABEL:
        return tuple(int(n) for n in held.sum(axis=0))
    return tuple(int(n) for n in np.bincount(held, minlength=len(task.labels)))


def scaled_inputs(
    inputs: np.ndarray, held: Mapping[str, np.ndarray], scaling: Mapping[str, Scaling]
) -> np.ndarray:
    """The inputs of a split, each client's rows by its own scaling; as they are without any."""
    if not scaling:
        return inputs
    scaled: np.ndarray = scaling[CENTRAL].apply(inputs).numpy()
    for client, rows in held.items():
        scaled[rows] = scaling[client].apply(inputs[rows]).numpy()
    return scaled


def _put(part: Split, store: Store) -> Ref:
    arrays = {"inputs": part.inputs, "targets": part.targets}
    return store.put_arrays(with_groups(arrays, part.groups), "shard")
