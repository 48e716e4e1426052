"""Statistics of all sites' rows without the rows: the same as with them, and no small group."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedcore.data.arrays import Arrays
from fedcore.data.dataset import Dataset, Split
from fedcore.data.encoding import TableEncoding
from fedcore.data.text_bytes import pack
from fedcore.numerics import code_digest
from fedcore.sites.codes import Code
from fedcore.sites.federated_statistics import merged
from fedcore.sites.inquiry import Inquiry
from fedcore.sites.local_statistics import local_statistics
from fedcore.sites.outgoing import Asked
from fedcore.sites.policy import Policy
from fedcore.sites.refusal import Refusal
from fedcore.sites.run import invite
from fedcore.sites.session import Session
from fedcore.sites.shaping import Shaped, shape
from fedcore.sites.site_statistics import SiteStatistics, read_statistics
from fedcore.sites.wanted import (
    StatisticsInquiry,
    Wanted,
    label_names,
    read_statistics_inquiry,
)
from fedcore.task import TEXTS, Task, TaskKind

NAMES = ("age", "crp")
EDGES = tuple(np.linspace(-4, 6, 21).tolist())
WANTED = Wanted(NAMES, ("no", "yes"), {"age": EDGES})
ASKED = Asked("run-1", "purpose", "statistics", 0, "1" * 64, "a" * 64, "c" * 64)


def table(rows, seed=0, features=None, kind=TaskKind.BINARY, labels=("no", "yes")):
    draw = np.random.default_rng(seed)
    inputs = draw.normal(seed, 1 + seed, (rows, 2)).astype(np.float32)
    inputs[::4, 1] = np.nan
    targets = np.arange(rows) // 2 % len(labels)
    features = features or {"kind": "table", "names": list(NAMES)}
    return Dataset("tiny", Task(kind, labels), {"train": Split(inputs, targets)}, features)


def told(dataset, wanted=WANTED, least=5, rows=None):
    """What comes out of the site's gate, as the coordinator reads it."""
    rows = np.arange(len(dataset.splits["train"])) if rows is None else rows
    facts = local_statistics(dataset, rows, wanted, least=least)
    policy = Policy(minimum_group=least, statistics=("*",), identifiers="hashed")
    shaped = shape(policy, bytes(32), ASKED, facts)
    if not isinstance(shaped, Shaped):
        return SiteStatistics(wanted, code=shaped.code.value)
    value = json.loads(json.dumps(shaped.released.facts))
    return read_statistics(value, wanted)


def by_name(found):
    return {(one.label, one.column): one for one in found.columns}


# -- the same as with all rows ---------------------------------------------------------------------


@pytest.mark.parametrize("least", [1, 5])
def test_means_and_variances_are_those_of_the_pooled_rows(least):
    parts = [table(rows, seed) for seed, rows in enumerate((40, 60, 25))]
    found = by_name(merged({f"s{at}": told(one, least=least) for at, one in enumerate(parts)}))
    inputs = np.concatenate([one.splits["train"].inputs for one in parts]).astype(np.float64)
    targets = np.concatenate([one.splits["train"].targets for one in parts])
    for at, name in enumerate(NAMES):
        for label, rows in (("", targets >= 0), ("no", targets == 0), ("yes", targets == 1)):
            column, one = inputs[rows, at], found[label, name]
            assert (one.count, one.missing) == (
                np.isfinite(column).sum(),
                np.isnan(column).sum(),
            )
            assert one.mean == pytest.approx(np.nanmean(column), rel=1e-12)
            assert one.variance == pytest.approx(np.nanvar(column), rel=1e-12)


def test_texts_are_told_by_their_words_and_bytes():
    texts = [f"note {'wörd ' * (at % 9)}" for at in range(40)]
    features = {"kind": "text", "most_bytes": 80}
    split = Split(pack(texts, 80), np.arange(40) % 2)
    dataset = Dataset("notes", Task(TaskKind.BINARY, ("no", "yes")), {"train": split}, features)
    found = by_name(merged({"a": told(dataset, Wanted(("words", "bytes")), least=3)}))
    assert found["", "words"].mean == np.mean([len(text.split()) for text in texts])
    assert found["", "bytes"].mean == np.mean([len(text.encode()) for text in texts])
    unlabelled = replace(dataset, task=Task(TaskKind.LANGUAGE, TEXTS))
    assert told(unlabelled, Wanted(("words", "bytes")), least=3) == told(
        dataset, Wanted(("words", "bytes")), least=3
    )
    assert label_names(unlabelled.task) == ()


@settings(max_examples=25)
@given(
    st.lists(st.lists(st.floats(-5, 7, width=32), min_size=4, max_size=30), min_size=1, max_size=4),
    st.sampled_from([1, 4]),
)
def test_quantiles_are_within_their_bin(sites, least):
    wanted, shares = Wanted(("column 0",), edges={"column 0": EDGES}), (0.0, 0.1, 0.5, 0.9, 1.0)
    features, task = {"kind": "table"}, Task(TaskKind.REGRESSION, ("y",))
    parts = {}
    for at, values in enumerate(sites):
        inputs = np.array(values, np.float32)[:, None]
        split = Split(inputs, np.zeros(len(inputs), np.float32))
        parts[f"s{at}"] = told(Dataset("t", task, {"train": split}, features), wanted, least)
    pooled = [v for at, v in enumerate(sites) if not parts[f"s{at}"].code for v in v]
    [one] = merged(parts, shares).columns
    assert one.count == len(pooled)
    for quantile in one.quantiles if pooled else ():
        right = np.quantile(np.array(pooled, np.float64), quantile.share, method="inverted_cdf")
        if quantile.error is not None:
            assert abs(quantile.value - right) <= quantile.error * (1 + 1e-12)
        else:
            assert quantile.value in EDGES


def test_bins_of_many_rows_stay_as_narrow_as_asked():
    found = merged({"a": told(table(4000)), "b": told(table(4000, seed=1))}, (0.5,))
    quantile = by_name(found)["", "age"].quantiles[0]
    assert quantile.error == 0.5
    inputs = np.concatenate([table(4000, seed).splits["train"].inputs[:, 0] for seed in (0, 1)])
    assert quantile.value == pytest.approx(np.median(inputs), abs=0.5)
    assert by_name(found)["", "crp"].quantiles == ()  # no edges were named


def test_a_quantile_beyond_the_outer_edges_says_that_it_is_open():
    low = replace(WANTED, edges={"age": (100.0, 200.0)})
    quantile = by_name(merged({"a": told(table(50), low, least=1)}))["", "age"].quantiles[0]
    assert (quantile.value, quantile.error) == (100.0, None)


def test_the_order_of_sites_does_not_matter():
    parts = {f"s{at}": told(table(30 + at, at)) for at in range(3)}
    turned = dict(reversed(parts.items()))
    assert merged(parts).to_json() == merged(turned).to_json()


def test_an_image_is_one_row_and_its_value_the_mean_of_its_channel():
    images = np.random.default_rng(0).integers(0, 255, (20, 4, 4, 3), dtype=np.uint8)
    split = Split(images, np.arange(20) % 2)
    features = {"kind": "image", "shape": [4, 4, 3]}
    dataset = Dataset("tiny", Task(TaskKind.BINARY, ("no", "yes")), {"train": split}, features)
    names = ("channel 0", "channel 1", "channel 2")
    [first, *_] = merged({"a": told(dataset, Wanted(names))}).columns
    assert (first.column, first.count) == ("channel 0", 20)
    assert first.mean == pytest.approx(images[..., 0].mean(), rel=1e-12)


# -- no small group --------------------------------------------------------------------------------


def test_a_site_with_few_rows_is_left_out_and_named():
    found = merged({"big": told(table(40)), "few": told(table(4))})
    assert found.left_out == {"few": Code.GROUP_TOO_SMALL}
    assert by_name(found)["", "age"].sites == ("big",)
    assert "Site few is left out: group_too_small." in found.to_markdown()
    assert json.loads(json.dumps(found.to_json()))["left_out"] == {"few": "group_too_small"}


def test_a_column_with_few_missing_values_stays_and_the_others_leave():
    dataset = table(40)
    dataset.splits["train"].inputs[:, 1] = np.where(np.arange(40) < 3, np.nan, 1.0)
    found = told(dataset)
    assert ("", "age") in found.cells and ("", "crp") not in found.cells
    row = by_name(merged({"a": found}))["", "crp"]
    assert (row.sites, row.silent, row.mean) == ((), ("a",), None)


def test_a_rare_value_cannot_be_counted_from_a_mean():
    dataset = table(40)
    dataset.splits["train"].inputs[:, 0] = np.arange(40) < 3
    assert ("", "age") not in told(dataset).cells
    dataset.splits["train"].inputs[:, 0] = np.arange(40) < 8
    assert ("", "age") in told(dataset).cells


def test_labels_are_told_apart_only_where_each_is_large_enough():
    dataset = table(40, labels=("no", "yes", "rare"), kind=TaskKind.MULTICLASS)
    wanted = replace(WANTED, labels=("no", "yes", "rare"))
    assert ("rare", "age") in told(dataset, wanted).cells
    dataset.splits["train"].targets[:] = np.where(np.arange(40) < 3, 2, np.arange(40) % 2)
    assert {label for label, _ in told(dataset, wanted).cells} == {""}


def test_neighbouring_bins_are_joined_until_each_group_is_large_enough():
    found = told(table(200)).cells
    assert found["no", "age"].edges == found["yes", "age"].edges == found["", "age"].edges
    assert 0 < len(found["", "age"].edges) < len(EDGES)
    for cell in found.values():
        assert all(count == 0 or count >= 5 for count in cell.bins)
    assert told(table(200), least=1).cells["", "age"].edges == EDGES


def test_columns_of_one_raw_column_stay_together():
    frame = pd.DataFrame({"age": np.arange(40.0), "type": ["a", "b"] * 18 + ["c"] * 4})
    frame.loc[:9, "age"] = np.nan
    encoding = TableEncoding(
        ("age",), (("type", ("a", "b", "c")),), drop_first=True, missing="indicate"
    )
    split = Split(encoding.encode(frame), np.arange(40) % 2)
    task = Task(TaskKind.BINARY, ("no", "yes"))
    dataset = Dataset("tiny", task, {"train": split}, encoding.features())
    found = told(dataset, Wanted(encoding.names)).cells
    assert {column for _, column in found} == {"age", "age is missing"}  # 4 of type c
    age = found["", "age"]
    assert (age.count, age.missing, age.mean) == (30, 10, np.arange(10, 40).mean())
    assert len(told(dataset, Wanted(encoding.names), least=4).cells) == len(encoding.names)
    # of the category that has no column: the rest is it
    split.inputs[:, 1:3] = [1.0, 0.0]
    split.inputs[:2, 1] = 0
    assert ("", "type=b") not in told(dataset, Wanted(encoding.names), least=4).cells


def test_a_question_about_other_columns_is_not_answered():
    for wanted in (Wanted(("age",)), replace(WANTED, labels=("yes", "no"))):
        with pytest.raises(ValueError, match="not those of the data here"):
            told(table(40), wanted)
    with pytest.raises(ValueError, match="split='val': there is none here"):
        told(table(40), replace(WANTED, split="val"))


# -- what comes from outside -----------------------------------------------------------------------


def facts(**changes):
    found = local_statistics(table(40), np.arange(40), WANTED, least=5)
    return {name: list(leaf.values) for name, leaf in found.fields.items()} | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"count": [40]},
        {"count": [40] * 3},
        {"count": [40, True]},
        {"count": [40, 30.0]},
        {"count": [40, -30]},
        {"count": [40, 2**60]},
        {"missing": None},
        {"mean": [0.0, float("nan")]},
        {"mean": [0.0, 1e300]},
        {"mean": [0.0, "0"]},
        {"variance": [1.0, -1.0]},
        {"variance": {"0": 1}},
        {"code": ["told", "secret words"]},
        {"code": ["group_too_small"] * 2},
        {"edges": ["kept"] * 10_000},
        {"edges": ["perhaps"] * len(EDGES)},
        {"bins": [40]},
        {"bins.by_label": []},
        {"count.by_label": [1] * 4},
        {"code.by_label": ["group_too_small"] * 4},
        {"extra": []},
    ],
)
def test_what_is_not_as_asked_is_refused_by_its_field(changes):
    with pytest.raises(Refusal, match="schema: ") as raised:
        read_statistics(facts(**changes), WANTED)
    assert "secret" not in str(raised.value) and len(str(raised.value)) < 60


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@settings(max_examples=60)
@given(st.sampled_from(sorted(facts())), values)
@example("bins", [10**30])
@example("mean", [1e999, 0.0])
def test_anything_at_all_in_a_field_is_refused_or_read(name, value):
    try:
        found = read_statistics(facts(**{name: value}), WANTED)
    except Refusal:
        return
    merged({"a": found})


@pytest.mark.parametrize("value", [None, [], "told", {"code": []}, {}])
def test_what_is_no_table_is_refused(value):
    with pytest.raises(Refusal, match="schema"):
        read_statistics(value, WANTED)


def inquiry(config):
    return Inquiry(config.audit, config.preprocessing.standardise, "5a" * 32)


@pytest.mark.parametrize(
    "change",
    [
        {"columns": []},
        {"columns": ["age", "age"]},
        {"columns": "age"},
        {"labels": ["x"] * 101},
        {"edges": {"age": [1.0, 1.0]}},
        {"edges": {"age": [0]}},
        {"edges": {"age": list(map(float, range(65)))}},
        {"edges": {"other": [1.0]}},
        {"edges": {"age": [1e999]}},
        {"split": "rows"},
        {"more": 1},
    ],
)
def test_a_site_reads_only_what_is_well_formed(change, make_world):
    config = make_world({}).config(rounds={"min_clients": 1})
    value = StatisticsInquiry(inquiry(config), WANTED).to_json()
    assert read_statistics_inquiry(value).wanted == WANTED
    with pytest.raises(Refusal, match="wanted"):
        read_statistics_inquiry({**value, "wanted": {**value["wanted"], **change}})


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"columns": ("a", "a")}, "repeat a name"),
        ({"edges": {"b": (1,)}}, r"edges of \['b'\]"),
        ({"edges": {"age": (2, 1)}}, "finite numbers that ascend"),
    ],
)
def test_what_cannot_be_wanted_says_why(fields, match):
    with pytest.raises(ValueError, match=match):
        replace(WANTED, **fields)


def test_what_cannot_be_merged_says_why():
    with pytest.raises(ValueError, match="0 sites were not asked"):
        merged({})
    other = told(table(40), replace(WANTED, edges={}))
    with pytest.raises(ValueError, match="ask at least one, and all alike"):
        merged({"a": told(table(40)), "b": other})
    with pytest.raises(ValueError, match=r"shares=\[2\]"):
        merged({"a": other}, [2])


# -- through sites and the mailbox -----------------------------------------------------------------


def test_sites_tell_through_the_mailbox_and_one_table_a_run(make_world, attended, tmp_path):
    policy = """
runs: ["*"]
purposes: ["*"]
jobs: [statistics]
approval: {{kind: by_rule, code: ["{code}"]}}
minimum_group: 5
statistics: ["*"]
"""
    words = {"task": "binary", "inputs": "x", "targets": "y", "split": "split"}
    words |= {"val_fraction": 0, "test_fraction": 0}
    data, rows = {}, {}
    for seed, (name, count) in enumerate((("few", 4), ("north", 40), ("south", 30))):
        folder = tmp_path / "wards" / name
        folder.mkdir(parents=True)
        rows[name] = np.random.default_rng(seed).normal(seed, 1, (count, 2)).astype(np.float32)
        own = {"y": np.arange(count) // 2 % 2, "split": np.full(count, "train")}
        np.savez(folder / "own.npz", x=rows[name], **own)
        data[name] = (Arrays(path="own.npz", **words), folder)
    world = make_world(data, policy=policy.format(code=code_digest()))
    config = world.config(audit={"remedy": "accept"}, data={"kind": "breast_cancer"})
    invitation = invite(config, world.coordinator, world.mailbox, "run")
    gathering = invitation.gathering(print)
    wanted = Wanted(("x0", "x1"), edges={"x0": EDGES})
    with attended(*(Session(site, "run") for site in world.sites.values())):
        said = gathering.statistics(config, "5a" * 32, wanted)
        again = gathering.statistics(config, "5a" * 32, replace(wanted, edges={}))
        invitation.close()
    found = merged(said)
    assert found.left_out == {"few": "group_too_small"}
    pooled = np.concatenate([rows["north"], rows["south"]]).astype(np.float64)
    assert by_name(found)["", "x1"].mean == pytest.approx(pooled[:, 1].mean(), rel=1e-12)
    assert {one.code for one in again.values()} == {Code.TOO_MANY_ANSWERS}
