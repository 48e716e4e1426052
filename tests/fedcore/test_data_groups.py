"""Groups of persons come with the samples from a source to a client's shard and back."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fedcore.config import make_config
from fedcore.data.arrays import Arrays
from fedcore.data.dataset import Dataset, Split
from fedcore.data.groups import group_names, groups_in, with_groups
from fedcore.data.heart import HeartDisease
from fedcore.data.image_folder import ImageFolder
from fedcore.data.materialise import get_dataset, put_dataset
from fedcore.data.table import Table
from fedcore.data.text import Text
from fedcore.data.text_bytes import unpack
from fedcore.federation import Federation, share_out
from fedcore.partition.make import make_partition
from fedcore.store import Store
from fedcore.task import Task, TaskKind

COUNT = 30
NUMBERS = np.arange(COUNT)
GROUPS = np.where(NUMBERS % 3 == 0, "over 60", "under")
LABELS = NUMBERS % 2
NONE = {"test_fraction": 0.2, "val_fraction": 0}


def _from_table(folder, **more):
    columns = {"x": NUMBERS, "y": LABELS, "age": GROUPS}
    pd.DataFrame(columns).to_csv(folder / "t.csv", index=False)
    settings = {"path": "t.csv", "label": "y", "numeric": ("x",), "group": "age", **NONE}
    return Table(**settings | more).load(folder)


def _from_texts(folder):
    columns = {"text": [f"{n:02} is it" for n in NUMBERS], "label": LABELS, "age": GROUPS}
    pd.DataFrame(columns).to_csv(folder / "x.csv", index=False)
    return Text(path="x.csv", group="age", task="binary", **NONE).load(folder)


def _number(inputs):
    """Of each sample, from what was written as its input."""
    if inputs.dtype == np.uint8 and inputs.ndim == 2:
        return np.array([int(text[:2]) for text in unpack(inputs)])
    return inputs.reshape(len(inputs), -1)[:, 0].astype(int)


def _from_arrays(folder):
    np.savez(folder / "a.npz", x=NUMBERS[:, None] * 1.0, y=LABELS, g=GROUPS)
    settings = {"path": "a.npz", "inputs": "x", "targets": "y", "group": "g", "task": "binary"}
    return Arrays(**settings, **NONE).load(folder)


def _from_images(folder):
    rows = []
    for number in NUMBERS:
        name = f"{LABELS[number]}/{number:02}.png"
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(folder / name)
        rows.append((name, GROUPS[number]))
    pd.DataFrame(rows, columns=["file", "age"]).to_csv(folder / "about.csv", index=False)
    settings = {"path": str(folder), "size": 8, "metadata": "about.csv", "group": "age"}
    return ImageFolder(**settings, **NONE).load()


@pytest.mark.parametrize("source", [_from_table, _from_arrays, _from_images, _from_texts])
def test_each_sample_keeps_its_group(source, tmp_path):
    dataset = source(tmp_path)
    assert sum(len(part) for part in dataset.splits.values()) == COUNT
    for part in dataset.splits.values():
        number = _number(part.inputs)
        assert np.array_equal(part.groups, np.where(number % 3 == 0, "over-60", "under"))
        assert part.owners is None
    assert "group" not in "".join(dataset.features.get("names", []))
    store = Store(tmp_path / "store")
    again = get_dataset(store, put_dataset(store, dataset))
    assert again.fingerprint == dataset.fingerprint
    assert np.array_equal(again.splits["train"].groups, dataset.splits["train"].groups)


def test_a_column_may_be_input_and_group(tmp_path):
    plain = _from_table(tmp_path, group=None, categorical=("age",))
    both = _from_table(tmp_path, categorical=("age",))
    assert both.features == plain.features and "age=over 60" in both.features["names"]
    assert plain.splits["train"].groups is None
    assert both.fingerprint != plain.fingerprint


def test_groups_of_patients_at_four_hospitals(fedloom_data):
    plain = HeartDisease(download=False).load(fedloom_data)
    for group, column, rule in (
        ("age", "age", lambda age: np.where(age >= 60, "60-and-over", "under-60")),
        ("sex", "sex", lambda sex: np.where(sex == 1, "men", "women")),
    ):
        dataset = HeartDisease(download=False, group=group).load(fedloom_data)
        for split, part in dataset.splits.items():
            at = plain.features["names"].index(column)
            assert np.array_equal(part.inputs, plain.splits[split].inputs)
            assert np.array_equal(part.groups, rule(part.inputs[:, at]))


def _dataset(groups):
    rng = np.random.default_rng(0)
    part = Split(rng.normal(size=(COUNT, 2)).astype(np.float32), LABELS, groups=groups)
    task = Task(TaskKind.BINARY, ("no", "yes"))
    return Dataset("tiny", task, {"train": part}, {"kind": "table", "names": ["a", "b"]})


def _shared(dataset, store):
    config = make_config({"partition": {"kind": "iid", "clients": 2}})
    partition = make_partition(dataset, config.partition, 0)
    return partition, share_out(dataset, partition, store, {})


def test_a_shard_holds_the_groups_and_a_holding_their_sizes(tmp_path):
    store, dataset = Store(tmp_path), _dataset(group_names(GROUPS))
    partition, federation = _shared(dataset, store)
    for client in federation.ids:
        rows = partition.indices["train"][client]
        expected = dataset.splits["train"].groups[rows]
        assert np.array_equal(federation.load(store, client, "train").groups, expected)
        held = federation.clients[client].groups
        assert held == {name: int((expected == name).sum()) for name in ("over-60", "under")}
    assert Federation.from_json(federation.to_json()) == federation


def test_without_groups_a_shard_is_what_it_was(tmp_path):
    store = Store(tmp_path)
    partition, federation = _shared(_dataset(None), store)
    shard = store.get_arrays(federation.clients["client-000"].blobs["train"])
    assert set(shard) == {"inputs", "targets"}
    assert federation.clients["client-000"].groups == {}
    value = federation.to_json()
    for held in value["clients"].values():  # as the header of an older run has it
        del held["groups"]
    assert Federation.from_json(value) == federation
    assert partition.clients == federation.ids


def test_names_of_groups_in_bytes():
    names = np.array(["a", "Ä-very-long-name", "b"])
    assert groups_in(with_groups({}, names)).tolist() == names.tolist()
    assert groups_in(with_groups({}, names[:0])).tolist() == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a/b"], "group='a/b' cannot be the id of a group of persons: 1 to 64 letters"),
        (["a b", "a-b"], "groups .* become the same id 'a-b'"),
    ],
)
def test_names_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        group_names(np.array(values))


def test_an_array_of_another_length_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((4, 2)), y=np.array([0, 1, 0, 1]), g=np.array(["a"]))
    settings = {"path": "a.npz", "inputs": "x", "targets": "y", "group": "g", "task": "binary"}
    with pytest.raises(ValueError, match=r"array 'g' has shape \(1,\); the inputs need \(4,\)"):
        Arrays(**settings).load(tmp_path)
