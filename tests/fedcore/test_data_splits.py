"""Setting samples aside: disjoint, complete, stratified, the same everywhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.data.dataset import Split
from fedcore.data.splits import (
    choose_held_out,
    declared_sizes,
    held_out_size,
    hold_out,
    limited,
)
from fedcore.task import Task, TaskKind

GOLDEN = [5, 7, 14, 15]
CLASSES = Task(TaskKind.MULTICLASS, ("a", "b", "c"))


def make(targets, owners=None):
    targets = np.asarray(targets)
    inputs = np.arange(len(targets), dtype=np.float32)[:, None]
    return Split(inputs, targets, None if owners is None else np.asarray(owners))


@given(
    strata=st.lists(st.integers(0, 5), min_size=1, max_size=200),
    fraction=st.floats(0.01, 0.5),
)
def test_each_stratum_gives_its_share_and_keeps_one(strata, fraction):
    strata = np.array(strata)
    held = choose_held_out(strata, fraction, "test")
    assert held.dtype == np.int64
    assert np.array_equal(held, np.unique(held))
    assert len(held) <= held_out_size(len(strata), fraction)
    for key in np.unique(strata):
        size, taken = (strata == key).sum(), (strata[held] == key).sum()
        assert taken < size
        assert abs(taken - size * fraction) < 1.0 + 1e-9


def test_large_strata_give_exactly_the_declared_number():
    strata = np.repeat([0, 1, 2], [301, 97, 53])
    for fraction in (0.1, 0.15, 0.2, 0.5):
        held = choose_held_out(strata, fraction, "x")
        assert len(held) == held_out_size(451, fraction)


def test_draw_is_fixed_forever():
    # Golden: a property of the data, so it may never change between releases or machines.
    assert choose_held_out(np.repeat([0, 1], 10), 0.2, "golden").tolist() == GOLDEN
    assert choose_held_out(np.repeat([0, 1], 10), 0.2, "other").tolist() != GOLDEN


@given(st.lists(st.integers(0, 2), min_size=30, max_size=90), st.booleans())
def test_splits_are_disjoint_and_complete(targets, owned):
    owners = np.arange(len(targets)) % 2 if owned else None
    whole = make(targets, owners)
    parts = hold_out({"train": whole}, CLASSES, name="x", val_fraction=0.2, test_fraction=0.2)
    assert list(parts) == ["train", "val", "test"]
    rows = np.concatenate([part.inputs[:, 0] for part in parts.values()])
    assert sorted(rows) == list(range(len(targets)))
    for part in parts.values():
        assert np.array_equal(part.inputs[:, 0], np.sort(part.inputs[:, 0]))
        assert np.array_equal(part.targets, whole.targets[part.inputs[:, 0].astype(int)])
    if owned:
        assert set(parts["train"].owners) == {0, 1}


@pytest.mark.parametrize("seed", range(20))
def test_groups_stay_together(seed):
    rng = np.random.default_rng(seed)
    groups, targets = rng.integers(0, 25, 90), rng.integers(0, 3, 90)
    whole = make(targets)
    parts = hold_out(
        {"train": whole},
        CLASSES,
        name="x",
        val_fraction=0.2,
        test_fraction=0.2,
        together=groups,
    )
    of = [groups[part.inputs[:, 0].astype(int)] for part in parts.values()]
    assert sum(map(len, of)) == 90
    assert sum(len(set(part.tolist())) for part in of) == len(set(groups.tolist()))


def test_groups_of_one_change_nothing():
    whole = make([0, 1, 2] * 20)
    alone, grouped = (
        hold_out({"train": whole}, CLASSES, name="x", test_fraction=0.3, together=groups)
        for groups in (None, np.arange(60)[::-1])
    )
    for split, part in alone.items():
        assert np.array_equal(part.inputs, grouped[split].inputs)


def test_owners_each_give_their_share():
    owners = np.repeat(["a", "b"], [100, 20])
    targets = np.tile([0, 1], 60)
    parts = hold_out({"train": make(targets, owners)}, CLASSES, name="x", val_fraction=0.1)
    assert np.unique(parts["val"].owners, return_counts=True)[1].tolist() == [10, 2]


def test_declared_split_is_left_alone_and_empty_ones_are_dropped():
    given_test = make([0, 1])
    parts = hold_out(
        {"train": make([0, 1] * 10), "val": make([]), "test": given_test},
        CLASSES,
        name="x",
        test_fraction=0.5,
    )
    assert list(parts) == ["train", "test"]
    assert parts["test"] is given_test
    assert len(parts["train"]) == 20


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        (TaskKind.REGRESSION, np.linspace(0, 1, 100, dtype=np.float32)),
        (TaskKind.MULTILABEL, np.eye(5, dtype=np.int64)[np.arange(100) % 5]),
    ],
)
def test_other_tasks_are_stratified_too(kind, targets):
    labels = ("y",) if kind is TaskKind.REGRESSION else tuple("abcde")
    parts = hold_out({"train": make(targets)}, Task(kind, labels), name="x", val_fraction=0.2)
    assert len(parts["val"]) == 20
    assert np.allclose(parts["val"].targets.mean(axis=0), targets.mean(axis=0), atol=0.02)


def test_nothing_to_set_aside_is_refused():
    with pytest.raises(ValueError, match=r"val_fraction=0.1 of the 3 training samples of x"):
        hold_out({"train": make([0, 1, 2])}, CLASSES, name="x", val_fraction=0.1)
    with pytest.raises(ValueError, match=r"x has no training sample: its splits are \['test'\]"):
        hold_out({"test": make([0])}, CLASSES, name="x")


def test_limit_takes_the_first():
    parts = limited({"train": make([0, 1, 2]), "test": make([1])}, 2)
    assert parts["train"].targets.tolist() == [0, 1]
    assert parts["test"].targets.tolist() == [1]
    assert len(limited(parts, None)["train"]) == 2


def test_declared_sizes_follow_the_settings():
    assert declared_sizes({"train": 10, "val": 5}, val_fraction=0.5) == {"train": 10, "val": 5}
    assert declared_sizes({"train": 100}, val_fraction=0.1, test_fraction=0.2) == {
        "train": 72,
        "val": 8,
        "test": 20,
    }
