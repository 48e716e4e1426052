"""What is asked of the sites' columns follows from what they have described, and gives no more."""

from dataclasses import replace

import numpy as np
import pytest

from fedcore.audit.settings import AuditSettings
from fedcore.data.dataset import Dataset, Split
from fedcore.data.encoding import TableEncoding
from fedcore.data.text_bytes import pack
from fedcore.sites.description import describe
from fedcore.sites.federated_statistics import merged
from fedcore.sites.inquiry import Inquiry
from fedcore.sites.planning import SitesDiffer
from fedcore.sites.site_statistics import ColumnStatistics, SiteStatistics
from fedcore.sites.statistics_picture import statistics_picture
from fedcore.sites.statistics_question import StatisticsSettings
from fedcore.sites.wanted import Wanted
from fedcore.task import Task, TaskKind

TASK = Task(TaskKind.BINARY, ("no", "yes"))
ENCODING = TableEncoding(("age", "flat"), (("sex", ("f", "m")),))
TABLE = {"kind": "table", "names": list(ENCODING.names), "encoding": ENCODING.to_json()}


def described(inputs, features, client="north"):
    targets = np.arange(len(inputs)) % 2
    dataset = Dataset("tiny", TASK, {"train": Split(inputs, targets)}, features)
    inquiry = Inquiry(AuditSettings(), "federation", "0" * 64)
    return describe(dataset, client, inquiry, secret=bytes(32))


def table(client="north", seed=0, rows=20):
    draw = np.random.default_rng(seed)
    inputs = np.zeros((rows, 4), np.float32)
    inputs[:, 0] = draw.normal(60, 10, rows)
    inputs[:, 2] = np.arange(rows) % 2
    inputs[:, 3] = 1 - inputs[:, 2]
    return described(inputs, TABLE, client), inputs


def test_bins_are_around_the_mean_of_all_rows_and_of_numbers_only():
    (north, a), (south, b) = table("north"), table("south", 1, 30)
    wanted = StatisticsSettings(bins=6).wanted([south, north])
    age = np.concatenate([a, b])[:, 0].astype(np.float64)
    expected = age.mean() + age.std() * np.arange(-3, 4)
    assert wanted.columns == ENCODING.names and wanted.labels == () and wanted.split == "train"
    assert wanted.edges == {"age": pytest.approx(tuple(expected), rel=1e-9)}
    assert wanted == StatisticsSettings(bins=6).wanted([north, south])


def test_labels_and_bins_are_asked_for_where_they_are_wanted():
    (north, _) = table()
    wanted = StatisticsSettings(bins=0, by_label=True, split="test").wanted([north])
    assert wanted == Wanted(ENCODING.names, ("no", "yes"), {}, "test")
    no_moments = replace(north, moments=None)
    assert StatisticsSettings().wanted([no_moments]).edges == {}


def test_images_have_the_bins_of_their_brightness():
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)
    wanted = StatisticsSettings(bins=5).wanted(
        [described(images, {"kind": "image", "shape": [4, 4, 3]})]
    )
    assert wanted.columns == ("channel 0", "channel 1", "channel 2")
    assert {*wanted.edges.values()} == {(0.0, 51.0, 102.0, 153.0, 204.0, 255.0)}


def test_texts_have_bins_of_how_many_words_and_bytes_they_have():
    texts = pack([f"note {'word ' * at}" for at in range(8)], 60)
    wanted = StatisticsSettings(bins=2).wanted(
        [described(texts, {"kind": "text", "most_bytes": 60})]
    )
    assert wanted.columns == ("words", "bytes")
    assert wanted.edges == {"words": (0.0, 5.0, 10.0), "bytes": (0.0, 30.0, 60.0)}


@pytest.mark.parametrize("encoding", [None, [], {}, {"numeric": 3}, {"numeric": ["x"] * 99}])
def test_a_site_that_describes_its_columns_oddly_breaks_nothing(encoding):
    north, _ = table()
    odd = replace(north, features={**TABLE, "encoding": encoding})
    assert StatisticsSettings().wanted([odd]).columns == ENCODING.names


def test_sites_with_other_columns_are_named():
    sites = [table(name)[0] for name in ("north", "south", "west")]
    sites[1] = replace(sites[1], features={**TABLE, "names": ["age", "weight", "a", "b"]})
    with pytest.raises(SitesDiffer, match=r"^south has another description of inputs"):
        StatisticsSettings().wanted(sites)


WANTED = Wanted(("age", "crp"), edges={"age": (40.0, 50.0, 60.0)})
BOTH = {
    ("", "age"): ColumnStatistics(9, 1, 50.0, 25.0, (40.0, 50.0, 60.0), (1, 3, 4, 1)),
    ("", "crp"): ColumnStatistics(10, 0, 3.0, 1.0),
}
TOLD = {
    "north": SiteStatistics(WANTED, BOTH),
    "south": SiteStatistics(WANTED, {("", "age"): BOTH["", "age"]}),
    "west": SiteStatistics(WANTED, code="group_too_small"),
}


def test_what_is_too_small_to_be_told_is_in_the_table():
    shown = merged(TOLD).to_markdown()
    _, _, age, crp, *_ = shown.splitlines()
    assert age.startswith("| age | all | 2 | 18 | 2 | 50.000 | 5.000 |") and age.endswith("| - |")
    assert crp.endswith("| south |")
    assert shown.endswith("Site west is left out: group_too_small.")


@pytest.mark.slow
def test_a_picture_shows_each_site_and_what_it_did_not_tell():
    alike = {**TOLD, "south": TOLD["north"]}
    drawn = {statistics_picture(told, merged(told)) for told in (TOLD, alike)}
    nothing = {"west": TOLD["west"]}
    drawn.add(statistics_picture(nothing, merged(nothing)))
    assert len(drawn) == 3 and all(one.startswith(b"\x89PNG") for one in drawn)
