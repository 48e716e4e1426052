"""Each partitioner: disjoint, complete, deterministic, at its limits, and its errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from fedcore.data.dataset import Dataset, Split
from fedcore.data.text_bytes import pack
from fedcore.partition.dirichlet import dirichlet
from fedcore.partition.iid import iid
from fedcore.partition.make import make_partition
from fedcore.partition.rare_label import rare_label
from fedcore.partition.settings import (
    PRESETS,
    ByOwner,
    Dirichlet,
    FeatureSkew,
    Iid,
    InnerDirichlet,
    PartitionPlugin,
    PartitionSettings,
    Pathological,
    Preset,
    QuantitySkew,
    RareLabel,
)
from fedcore.rng import stream
from fedcore.task import Task, TaskKind


def toy(samples=600, labels=10, kind=TaskKind.MULTICLASS, seed=0):
    """Small images with a skewed label distribution and three owners."""
    draw = np.random.Generator(np.random.PCG64(seed))

    def split(n):
        if kind is TaskKind.MULTILABEL:
            targets = (draw.random((n, labels)) < 0.2).astype(np.int64)
        elif kind is TaskKind.REGRESSION:
            targets = draw.normal(size=n).astype(np.float32)
        else:
            targets = np.minimum(draw.geometric(0.3, size=n) - 1, labels - 1)
            targets[:labels] = np.arange(labels)
        images = draw.integers(0, 256, size=(n, 4, 4, 1), dtype=np.uint8)
        owners = np.array(["north", "south", "west"])[draw.integers(0, 3, n)]
        return Split(images, targets, owners)

    names = (
        ("value",) if kind is TaskKind.REGRESSION else tuple(f"label {i}" for i in range(labels))
    )
    splits = {"train": split(samples), "val": split(samples // 4), "test": split(samples // 3)}
    return Dataset("toy", Task(kind, names), splits, {"kind": "image", "shape": [4, 4, 1]})


# One row per partitioner; the digest is of toy() at seed 7 and must never change: a changed
# digest changes every run's partition.
CASES = {
    "iid": (Iid(clients=7), "06ab90e39bf0f40e"),
    "dirichlet": (Dirichlet(clients=7, alpha=0.3), "90377d9337ba9f9a"),
    "inner_dirichlet": (InnerDirichlet(clients=7, alpha=0.3, size_alpha=1.0), "f9fcedb11581a82a"),
    "inner_dirichlet sizes": (
        InnerDirichlet(clients=3, alpha=0.3, sizes=(3, 2, 1)),
        "7772163fca86a91b",
    ),
    "pathological": (Pathological(clients=7, labels_per_client=2), "feee08c54621d705"),
    "quantity_skew": (QuantitySkew(clients=7, alpha=0.3), "98eb8eb1df6e79f9"),
    "feature_skew": (FeatureSkew(clients=7, strength=0.7), "3d3aa94c2174d8b5"),
    "rare_label": (RareLabel(clients=7), "5855f0c16dc82184"),
    "by_owner": (ByOwner(), "8388796181a04993"),
}
PRESET_DIGESTS = {
    "mild": "eb12e47b65e0adbc",
    "strong": "e664ff79b2751406",
    "two-large-three-small": "299204633e624a9b",
    "one-large-four-small": "ed7f71e74a4c4486",
    "rare-disease-site": "568987e906893ba6",
    "different-scanners": "8c48e00e94cae31a",
}
CASES |= {f"preset {name}": (Preset(name=name), PRESET_DIGESTS[name]) for name in PRESETS}
each_partitioner = pytest.mark.parametrize("choice, golden", CASES.values(), ids=CASES.keys())


def assert_shares_out(dataset, partition, dropped=None):
    for name, split in dataset.splits.items():
        parts = partition.indices[name]
        together = np.concatenate(list(parts.values()))
        expected = np.setdiff1d(np.arange(len(split)), (dropped or {}).get(name, []))
        assert np.array_equal(np.sort(together), expected)
        assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() for part in parts.values())
    assert all(len(part) > 0 for part in partition.indices["train"].values())


@each_partitioner
def test_every_sample_in_exactly_one_client(choice, golden):
    assert_shares_out(toy(), make_partition(toy(), choice, 7))


@each_partitioner
def test_same_seed_same_partition_on_every_machine(choice, golden):
    assert make_partition(toy(), choice, 7).digest[:16] == golden


@pytest.mark.parametrize("name", [name for name in CASES if name != "by_owner"])
def test_another_seed_is_another_partition(name):
    choice = CASES[name][0]
    assert make_partition(toy(), choice, 7).digest != make_partition(toy(), choice, 8).digest


@each_partitioner
def test_dropped_samples_belong_to_nobody(choice, golden):
    dropped = {"train": np.array([3, 500, 17]), "val": np.array([0])}
    assert_shares_out(toy(), make_partition(toy(), choice, 7, dropped), dropped)


@pytest.mark.parametrize("kind", [TaskKind.MULTILABEL, TaskKind.REGRESSION, TaskKind.ORDINAL])
@each_partitioner
def test_every_kind_of_task(choice, golden, kind):
    dataset = toy(kind=kind)
    assert_shares_out(dataset, make_partition(dataset, choice, 1))


def test_the_settings_union_knows_every_case():
    adapter = TypeAdapter(PartitionSettings)
    for choice, _ in CASES.values():
        assert adapter.validate_python(choice.model_dump(mode="json")) == choice
    with pytest.raises(ValidationError, match=r"'iid', 'dirichlet'.*'plugin'"):
        adapter.validate_python({"kind": "random"})
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        adapter.validate_python({"kind": "iid", "alpha": 1})
    with pytest.raises(ValidationError, match=r"greater than or equal to 0.001"):
        adapter.validate_python({"kind": "dirichlet", "alpha": 0})


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(20, 300),
    labels=st.integers(1, 12),
    clients=st.integers(1, 20),
    alpha=st.sampled_from([1e-3, 0.05, 0.5, 100.0]),
    min_size=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_laws_of_the_random_partitioners(samples, labels, clients, alpha, min_size, seed):
    dataset = toy(max(samples, 4 * labels), labels, seed=seed)
    available = len(dataset.splits["train"])
    for choice in (
        Iid(clients=clients),
        Dirichlet(clients=clients, alpha=alpha, min_size=min_size),
        InnerDirichlet(clients=clients, alpha=alpha, size_alpha=alpha),
        QuantitySkew(clients=clients, alpha=alpha, min_size=min_size),
        FeatureSkew(clients=clients, statistic="contrast"),
    ):
        least = getattr(choice, "min_size", 1)
        if clients * least > available:
            with pytest.raises(
                ValueError, match=rf"clients={clients} with at least {least} .*Take"
            ):
                make_partition(dataset, choice, seed)
            continue
        partition = make_partition(dataset, choice, seed)
        assert_shares_out(dataset, partition)
        assert min(len(part) for part in partition.indices["train"].values()) >= least


def label_mix(dataset, partition):
    """(clients, labels) fractions of each client's training labels."""
    targets = dataset.splits["train"].targets
    rows = [
        np.bincount(targets[partition.indices["train"][client]], minlength=10)
        for client in partition.clients
    ]
    return np.array([row / row.sum() for row in rows])


@pytest.mark.parametrize("kind", [Dirichlet, InnerDirichlet])
def test_large_alpha_is_iid_and_small_alpha_leaves_few_labels(kind):
    dataset = toy(6000)
    whole = np.bincount(dataset.splits["train"].targets, minlength=10) / 6000
    even = label_mix(dataset, make_partition(dataset, kind(clients=5, alpha=1e6), 0))
    assert np.abs(even - whole).max() < 0.03
    skewed = label_mix(dataset, make_partition(dataset, kind(clients=5, alpha=0.01), 0))
    assert np.abs(skewed - whole).max() > 0.2


def test_dirichlet_shares_have_the_variance_of_the_distribution():
    # Var p_j = (1/K)(1 - 1/K) / (K alpha + 1); 200 draws of one label over K = 5 clients.
    dataset = toy(200, labels=1)

    def variance(alpha):
        shares = [
            len(part) / 200
            for seed in range(200)
            for part in make_partition(dataset, Dirichlet(clients=5, alpha=alpha, min_size=1), seed)
            .indices["train"]
            .values()
        ]
        return np.var(shares)

    expected = 0.2 * 0.8 / (5 * 2.0 + 1)
    assert abs(variance(2.0) / expected - 1) < 0.2
    assert abs(variance(4.0) / expected - 1) > 0.2


def test_pathological_gives_every_client_exactly_k_labels_and_every_label_its_holders():
    dataset = toy(2000)
    partition = make_partition(dataset, Pathological(clients=15, labels_per_client=2), 3)
    holds = label_mix(dataset, partition) > 0
    assert (holds.sum(axis=1) == 2).all()
    assert set(holds.sum(axis=0)) == {3}


def test_quantity_skew_has_unequal_sizes_and_iid_has_equal_ones():
    def sizes(choice):
        return [len(part) for part in make_partition(toy(), choice, 0).indices["train"].values()]

    assert max(sizes(Iid(clients=7))) - min(sizes(Iid(clients=7))) <= 1
    assert max(sizes(QuantitySkew(clients=7, alpha=0.3))) > 3 * 600 / 7
    even = sizes(QuantitySkew(clients=7, alpha=1e6))
    assert max(even) - min(even) <= 2


def test_inner_dirichlet_keeps_the_sizes_asked_for():
    partition = make_partition(toy(), InnerDirichlet(clients=3, alpha=0.1, sizes=(3, 2, 1)), 0)
    assert [len(partition.indices["train"][c]) for c in partition.clients] == [300, 200, 100]


def test_feature_skew_sorts_brightness_and_keeps_labels():
    dataset = toy(6000)
    light = dataset.splits["train"].inputs.mean(axis=(1, 2, 3))

    def levels(strength):
        partition = make_partition(dataset, FeatureSkew(clients=4, strength=strength), 0)
        return [light[partition.indices["train"][client]].mean() for client in partition.clients]

    assert levels(1.0) == sorted(levels(1.0))
    assert levels(1.0)[-1] - levels(1.0)[0] > 30
    assert max(levels(0.0)) - min(levels(0.0)) < 3
    mix = label_mix(dataset, make_partition(dataset, FeatureSkew(clients=4), 0))
    assert np.ptp(mix, axis=0).max() < 0.005


def test_feature_skew_ranks_the_columns_of_a_table():
    rows = np.array([[1.0, 1e6], [2.0, 1e7], [3.0, 1e8], [4.0, 1e9]], dtype=np.float32)
    split = Split(rows, np.zeros(4, dtype=np.int64))
    task = Task(TaskKind.BINARY, ("no", "yes"))
    dataset = Dataset("rows", task, {"train": split}, {"kind": "table"})
    partition = make_partition(dataset, FeatureSkew(clients=2), 0)
    assert [part.tolist() for part in partition.indices["train"].values()] == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("statistic", "expected"), [("level", [[0, 2], [1, 3]]), ("contrast", [[0, 1], [2, 3]])]
)
def test_feature_skew_sorts_texts_by_their_length_or_that_of_their_words(statistic, expected):
    texts = ["a b", "a b c d e f g h i", "elephant", "elephant giraffe"]
    split = Split(pack(texts, 40), np.zeros(4, dtype=np.int64))
    task = Task(TaskKind.BINARY, ("no", "yes"))
    features = {"kind": "text", "most_bytes": 40}
    dataset = Dataset("notes", task, {"train": split}, features)
    partition = make_partition(dataset, FeatureSkew(clients=2, statistic=statistic), 0)
    assert [sorted(part.tolist()) for part in partition.indices["train"].values()] == expected


def test_rare_label_site_holds_its_share():
    dataset = toy(3000)
    targets = dataset.splits["train"].targets
    rarest = np.bincount(targets).argmin()
    partition = make_partition(dataset, RareLabel(clients=5, share=0.8), 0)
    held = [(targets[part] == rarest).sum() for part in partition.indices["train"].values()]
    assert abs(held[0] / sum(held) - 0.8) < 0.05


def test_validation_and_test_follow_each_clients_training_labels():
    dataset = toy(6000)
    partition = make_partition(dataset, Dirichlet(clients=6, alpha=0.3), 5)
    for name in ("val", "test"):
        for label in range(10):
            here = dataset.splits[name].targets == label
            train = dataset.splits["train"].targets == label
            for client in partition.clients:
                got = here[partition.indices[name].get(client, np.zeros(0, int))].sum()
                due = here.sum() * train[partition.indices["train"][client]].sum() / train.sum()
                assert abs(got - due) < 1


def test_by_owner_keeps_samples_with_their_owner():
    dataset = toy()
    partition = make_partition(dataset, ByOwner(), 0)
    assert partition.clients == ("north", "south", "west")
    for name, split in dataset.splits.items():
        for owner, part in partition.indices[name].items():
            assert set(split.owners[part]) == {owner}


def without_owners(dataset):
    splits = {name: Split(part.inputs, part.targets) for name, part in dataset.splits.items()}
    return Dataset(dataset.name, dataset.task, splits, dataset.features)


def renamed(dataset, old, new):
    splits = {
        name: Split(part.inputs, part.targets, np.where(part.owners == old, new, part.owners))
        for name, part in dataset.splits.items()
    }
    return Dataset(dataset.name, dataset.task, splits, dataset.features)


@pytest.mark.parametrize(
    "choice, dataset, message",
    [
        (Iid(clients=601), toy(), r"clients=601 .* need 601 samples; there are 600\. Take fewer"),
        (Dirichlet(clients=61), toy(), r"clients=61 with at least 10 .* need 610"),
        (
            Pathological(labels_per_client=11),
            toy(),
            r"labels_per_client=11: .* 1 and the 10 labels",
        ),
        (
            Pathological(clients=2, labels_per_client=2),
            toy(),
            r"at most 4 of 10 labels.*more clients",
        ),
        (
            Pathological(clients=400, labels_per_client=9),
            toy(),
            r"give a label of \d+ samples to \d+ clients.*Take fewer clients",
        ),
        (
            ByOwner(),
            without_owners(toy()),
            r"kind='by_owner' needs the owner.*Name the owner column",
        ),
        (ByOwner(), renamed(toy(), "west", "a/b"), r"owner='a/b' cannot name a client.*Rename"),
    ],
)
def test_impossible_partitions_say_why(choice, dataset, message):
    with pytest.raises(ValueError, match=message):
        make_partition(dataset, choice, 0)


@pytest.mark.parametrize(
    "choice, message",
    [
        (InnerDirichlet(clients=2, sizes=(1, 2), size_alpha=1), r"Give one of them"),
        (InnerDirichlet(clients=3, sizes=(1, 2)), r"sizes=\(1.0, 2.0\): needs one per client"),
        (InnerDirichlet(clients=2, sizes=(1, -2)), r"sizes\[1\]=-2.0: must be greater than 0"),
    ],
)
def test_inner_dirichlet_refuses_sizes_that_do_not_fit(choice, message):
    with pytest.raises(ValueError, match=message):
        choice.build()


def test_an_owner_emptied_by_the_audit_is_an_error_and_one_without_training_data_no_client():
    dataset = toy()
    west = np.flatnonzero(dataset.splits["train"].owners == "west")
    with pytest.raises(ValueError, match=r"owner='west' has no training sample left.*'accept'"):
        make_partition(dataset, ByOwner(), 0, {"train": west})
    train = dataset.splits["train"]
    moved = Split(
        train.inputs, train.targets, np.where(train.owners == "west", "north", train.owners)
    )
    splits = {**dataset.splits, "train": moved}
    partition = make_partition(Dataset("toy", dataset.task, splits, dataset.features), ByOwner(), 0)
    assert partition.clients == ("north", "south")
    assert set(partition.indices["test"]) == {"north", "south"}


class Point:
    """An entry point whose factory returns a partitioner of its options."""

    name = "ours"

    def load(self):
        return lambda parts: lambda task, split, rng: {k: np.array(v) for k, v in parts.items()}


@pytest.mark.parametrize(
    "parts, message",
    [
        ({}, "made no client"),
        ({"a": list(range(600)), "b": []}, r"client='b' without a training sample"),
        ({"a": list(range(600)), "b": [1]}, r"gives out 601 places for 600"),
        ({"a": list(range(599))}, r"gives out 599 places for 600"),
    ],
)
def test_a_plugins_partition_is_checked(monkeypatch, parts, message):
    monkeypatch.setattr("fedcore.settings.entry_points", lambda group: [Point()])
    choice = PartitionPlugin(name="ours", options={"parts": parts})
    with pytest.raises(ValueError, match=message):
        make_partition(toy(), choice, 0)


def test_a_plugin_can_partition(monkeypatch):
    monkeypatch.setattr("fedcore.settings.entry_points", lambda group: [Point()])
    options = {"parts": {"a": list(range(300)), "b": list(range(300, 600))}}
    partition = make_partition(toy(), PartitionPlugin(name="ours", options=options), 0)
    assert partition.clients == ("a", "b")
    assert_shares_out(toy(), partition)


def test_functions_refuse_what_the_settings_would_have_refused():
    with pytest.raises(ValueError, match=r"share=1\.5: a fraction between 0 and 1"):
        rare_label(clients=3, share=1.5)
    dataset = toy()
    draw = stream(0, "partition")
    for partitioner, message in (
        (rare_label(clients=1), r"clients=1: a rare label needs a second client"),
        (iid(clients=0), r"clients=0: a partition needs at least 1 client"),
    ):
        with pytest.raises(ValueError, match=message):
            partitioner(dataset.task, dataset.splits["train"], draw)
    with pytest.raises(ValueError, match=r"alpha=0: must be greater than 0"):
        dirichlet(clients=3, alpha=0)
