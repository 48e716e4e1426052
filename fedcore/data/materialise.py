"""A data set as blobs of a store, so that tasks can hand it on by digest."""

from __future__ import annotations

import json

import numpy as np

from fedcore.data.dataset import Dataset, Split
from fedcore.data.groups import groups_in, with_groups
from fedcore.digests import canonical_json
from fedcore.refs import Ref
from fedcore.store import Store
from fedcore.task import Task


def put_dataset(store: Store, dataset: Dataset) -> Ref:
    """One blob per split and a JSON blob that names them."""
    splits = {}
    for name, split in dataset.splits.items():
        arrays = {"inputs": split.inputs, "targets": split.targets}
        arrays = with_groups(arrays, split.groups)
        ref = store.put_arrays(arrays, "split")
        owners = None if split.owners is None else [str(owner) for owner in split.owners]
        splits[name] = {"blob": vars(ref), "owners": owners}
    value = {
        "name": dataset.name,
        "task": dataset.task.to_json(),
        "splits": splits,
        "features": dict(dataset.features),
        "provenance": dict(dataset.provenance),
    }
    return store.put(canonical_json(value).encode(), "dataset")


def get_dataset(store: Store, ref: Ref) -> Dataset:
    """The data set that ``put_dataset`` kept; raises as :meth:`fedcore.store.Store.get`."""
    value = json.loads(store.get(ref))
    splits = {}
    for name, kept in value["splits"].items():
        arrays = store.get_arrays(Ref(**kept["blob"]))
        owners = None if kept["owners"] is None else np.array(kept["owners"])
        splits[name] = Split(arrays["inputs"], arrays["targets"], owners, groups_in(arrays))
    return Dataset(
        value["name"],
        Task.from_json(value["task"]),
        splits,
        value["features"],
        value["provenance"],
    )
