"""Samples shared out by digest: complete, scaled as asked, and back from the store."""

import json

import numpy as np
import pytest

from fedcore.config import make_config
from fedcore.data.dataset import Dataset, Split
from fedcore.data.materialise import get_dataset, put_dataset
from fedcore.federation import CENTRAL, Federation, share_out
from fedcore.partition.make import make_partition
from fedcore.standardise import standardisers
from fedcore.store import Store
from fedcore.task import Task, TaskKind


def table(owners=("a", "a", "a", "b", "b", "b")):
    rng = np.random.default_rng(0)
    size = len(owners)

    def split(shift):
        inputs = rng.normal(shift, 3.0, size=(size, 2)).astype(np.float32)
        inputs[:, 1] = 4.0
        return Split(inputs, np.arange(size) % 2, np.array(owners))

    return Dataset(
        "tiny",
        Task(TaskKind.BINARY, ("no", "yes")),
        {"train": split(1.0), "test": split(9.0)},
        {"kind": "table", "names": ["x", "constant"]},
    )


def shared(store, scope, dataset=None):
    dataset = dataset or table()
    config = make_config(
        {"partition": {"kind": "by_owner"}, "preprocessing": {"standardise": scope}}
    )
    partition = make_partition(dataset, config.partition, 0)
    scaling = standardisers(config.preprocessing.standardise, dataset, partition)
    return dataset, share_out(dataset, partition, store, scaling), scaling


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_unscaled_shards_hold_exactly_the_data(store):
    dataset, federation, _ = shared(store, "none")
    rows = np.concatenate([federation.load(store, c, "train").inputs for c in federation.ids])
    np.testing.assert_array_equal(rows, dataset.splits["train"].inputs)
    assert federation.clients["a"].sizes == {"train": 3, "test": 3}
    assert federation.clients["a"].labels == (2, 1)
    assert Federation.from_json(json.loads(json.dumps(federation.to_json()))) == federation


def test_each_client_is_scaled_by_its_own_training_rows(store):
    _, federation, _ = shared(store, "client")
    for client in ("a", "b"):
        scaled = federation.load(store, client, "train").inputs
        np.testing.assert_allclose(scaled[:, 0].mean(), 0, atol=1e-6)
        np.testing.assert_allclose(scaled[:, 0].std(), 1, rtol=1e-5)
        assert (scaled[:, 1] == 0).all()  # a column without spread is only centred
    central = store.get_arrays(federation.central["test"])["inputs"]
    own = np.concatenate([federation.load(store, c, "test").inputs for c in ("a", "b")])
    np.testing.assert_array_equal(central, own)


def test_the_federation_scales_everybody_alike(store):
    _, federation, scaling = shared(store, "federation")
    everyone = np.concatenate([federation.load(store, c, "train").inputs for c in ("a", "b")])
    np.testing.assert_allclose(everyone[:, 0].mean(), 0, atol=1e-6)
    assert scaling["a"] == scaling["b"] == scaling[CENTRAL]


def test_a_data_set_comes_back_from_the_store_with_its_fingerprint(store):
    dataset = table(owners=("Köln", "Köln", "b", "b", "b", "b"))
    back = get_dataset(store, put_dataset(store, dataset))
    assert back.fingerprint == dataset.fingerprint and back.task == dataset.task
    assert list(back.splits["train"].owners) == list(dataset.splits["train"].owners)


def test_the_fingerprint_depends_on_every_part():
    base = table()
    train = base.splits["train"]
    others = [
        Split(train.inputs + 1, train.targets, train.owners),
        Split(train.inputs, 1 - train.targets, train.owners),
        Split(train.inputs, train.targets, np.array(["b"] * 6)),
        Split(train.inputs, train.targets),
    ]
    prints = {
        Dataset("n", base.task, {**base.splits, "train": part}, base.features).fingerprint
        for part in [train, *others]
    }
    assert len(prints) == 5 and base.fingerprint in prints
