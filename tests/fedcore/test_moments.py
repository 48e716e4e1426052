"""Moments that are merged are those of all rows; laws against numpy on the rows together."""

import math

import numpy as np
import pytest

from fedcore.data.dataset import Dataset, Split
from fedcore.moments import Moments, merged, moments, standardiser
from fedcore.partition.make import make_partition
from fedcore.partition.settings import ByOwner
from fedcore.standardise import standardisers
from fedcore.task import Task, TaskKind


def parts(sizes, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return [
        rng.normal(shift + k, 1 + k, size=(n, 3)).astype(np.float32) for k, n in enumerate(sizes)
    ]


@pytest.mark.parametrize("sizes", [(5,), (1, 1), (1, 40, 7), (300, 2, 1, 90)])
@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_merged_are_those_of_the_rows_together(sizes, shift):
    rows = parts(sizes, shift)
    together = np.concatenate(rows).astype(np.float64)
    found = merged(map(moments, rows))
    assert found.count == sum(sizes)
    np.testing.assert_allclose(found.mean, together.mean(axis=0), rtol=1e-12)
    spread = ((together - together.mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(found.squares, spread, rtol=1e-12, atol=0)
    scaling = standardiser(found)
    expected = [math.sqrt(value / sum(sizes)) or 1.0 for value in spread]
    np.testing.assert_allclose(scaling.std, expected, rtol=1e-12)


def test_exact_where_arithmetic_is():
    """By hand: 0, 0 | 3, 6, 9 have mean 3.6 = 18/5 and squares 126 - 5 * 3.6^2 = 61.2."""
    found = merged([moments(np.zeros((2, 1))), moments(np.array([[3.0], [6.0], [9.0]]))])
    assert found.count == 5 and found.mean[0] == pytest.approx(3.6, rel=1e-15)
    assert found.squares[0] == pytest.approx(61.2, rel=1e-15)


def test_layout_and_type_change_no_bit():
    rows = parts((50,))[0]
    assert moments(np.asfortranarray(rows)) == moments(rows) == moments(rows.astype(np.float64))
    assert merged([moments(rows)]) == moments(rows)


def test_a_column_without_spread_is_only_centred():
    scaling = standardiser(merged([moments(np.full((3, 1), 7.0)), moments(np.full((2, 1), 7.0))]))
    assert scaling.mean == (7.0,) and scaling.std == (1.0,)


@pytest.mark.parametrize("scope", ["client", "federation"])
def test_a_federation_whose_rows_never_meet_is_scaled_by_the_same_bits(scope):
    rows = parts((30, 4, 11))
    owners = np.repeat(["a", "b", "c"], [30, 4, 11])
    order = np.random.default_rng(1).permutation(45)  # the joint table has its own order
    inputs = np.concatenate(rows)[order]
    joint = Dataset(
        "joint",
        Task(TaskKind.BINARY, ("no", "yes")),
        {"train": Split(inputs, np.arange(45) % 2, owners[order])},
        {"kind": "table", "names": ["x", "y", "z"]},
    )
    scaling = standardisers(scope, joint, make_partition(joint, ByOwner(), 0))
    own = {name: moments(inputs[owners[order] == name]) for name in "abc"}
    shared = standardiser(merged([own["a"], own["b"], own["c"]]))
    assert scaling["_central"] == shared
    for name in "abc":
        assert scaling[name] == (shared if scope == "federation" else standardiser(own[name]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: moments(np.zeros((0, 2))), "count=0: moments need at least 1 row"),
        (lambda: moments(np.array([[np.nan]])), "must be finite"),
        (lambda: Moments(0, (), ()), "count=0"),
        (lambda: Moments(1, (1.0,), ()), "1 means and 0 squares"),
        (lambda: Moments(1, (1.0,), (-1.0,)), "squares must not be negative"),
        (lambda: merged([]), "at least one client's moments"),
        (lambda: merged([Moments(1, (), ()), Moments(1, (1.0,), (0.0,))]), r"parts have \[0, 1\]"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
