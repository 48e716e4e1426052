"""The manifest, the table of labels by client, and its picture."""

import io

import numpy as np
import pytest

from fedcore.data.dataset import Dataset, Split
from fedcore.partition.make import make_partition
from fedcore.partition.manifest import from_parquet, to_parquet
from fedcore.partition.picture import _draw, class_table, partition_picture
from fedcore.partition.settings import Dirichlet, Iid
from fedcore.task import Task, TaskKind


def toy(kind=TaskKind.MULTICLASS, labels=4, samples=200):
    draw = np.random.Generator(np.random.PCG64(0))
    targets = {
        TaskKind.MULTILABEL: draw.integers(0, 2, (samples, labels)),
        TaskKind.REGRESSION: draw.normal(size=samples).astype(np.float32),
    }.get(kind, draw.integers(0, labels, samples))
    names = (
        ("value",) if kind is TaskKind.REGRESSION else tuple(f"label {i}" for i in range(labels))
    )
    split = Split(draw.normal(size=(samples, 3)).astype(np.float32), targets)
    return Dataset("toy", Task(kind, names), {"train": split, "test": split}, {"kind": "table"})


def test_manifest_is_deterministic_and_comes_back():
    partition = make_partition(toy(), Dirichlet(clients=3), 1)
    manifest = to_parquet(partition)
    assert manifest == to_parquet(make_partition(toy(), Dirichlet(clients=3), 1))
    again = from_parquet(manifest)
    assert again.digest == partition.digest
    assert (again.how, again.seed, again.clients) == (partition.how, 1, partition.clients)


def test_manifest_is_a_plain_table_with_a_row_per_sample():
    import pandas as pd

    partition = make_partition(toy(), Iid(clients=3), 1)
    names = {split: np.array([f"{split}{i}" for i in range(200)]) for split in ("train", "test")}
    table = pd.read_parquet(io.BytesIO(to_parquet(partition, names)))
    assert list(table.columns) == ["split", "client", "index", "sample_digest"]
    assert len(table) == 400
    assert (table["split"] + table["index"].astype(str) == table["sample_digest"]).all()


def test_altered_or_foreign_manifests_are_refused():
    import pyarrow as pa
    from pyarrow import parquet

    manifest = to_parquet(make_partition(toy(), Iid(clients=3), 1))
    table = parquet.read_table(io.BytesIO(manifest))
    sink = io.BytesIO()
    parquet.write_table(table.slice(1), sink)
    with pytest.raises(ValueError, match=r"states digest .* altered\. Make the partition again"):
        from_parquet(sink.getvalue())
    sink = io.BytesIO()
    parquet.write_table(pa.table({"split": ["train"]}), sink)
    with pytest.raises(ValueError, match="without partition metadata"):
        from_parquet(sink.getvalue())
    with pytest.raises(ValueError, match="is not a parquet file"):
        from_parquet(manifest[: len(manifest) // 2])


def test_class_table_counts_every_sample_once():
    dataset = toy()
    partition = make_partition(dataset, Dirichlet(clients=3), 1)
    table = class_table(dataset, partition)
    assert list(table.columns) == [f"label {i}" for i in range(4)]
    assert table.sum().tolist() == np.bincount(dataset.splits["train"].targets).tolist()
    sizes = [len(partition.indices["train"][client]) for client in partition.clients]
    assert table.sum(axis=1).tolist() == sizes


def test_class_table_of_other_tasks():
    many = toy(TaskKind.MULTILABEL)
    table = class_table(many, make_partition(many, Iid(clients=3), 1))
    assert table.sum().tolist() == many.splits["train"].targets.sum(axis=0).tolist()
    number = toy(TaskKind.REGRESSION)
    tenths = class_table(number, make_partition(number, Iid(clients=3), 1))
    assert tenths.sum().tolist() == [20] * 10


@pytest.mark.parametrize("clients", [3, 100])
def test_picture_is_a_png_and_deterministic(clients):
    dataset = toy()
    partition = make_partition(dataset, Iid(clients=clients), 1)
    picture = partition_picture(dataset, partition)
    assert picture.startswith(b"\x89PNG")
    _draw.cache_clear()
    assert picture == partition_picture(dataset, partition)
