"""A user's own table: what a settings section describes is what is loaded, or a clear refusal."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from fedcore.data.download import DataNotFound
from fedcore.data.encoding import TableEncoding
from fedcore.data.table import Table
from fedcore.task import TaskKind

ROWS = 40
COMMON = {
    "path": "visits.csv",
    "label": "ill",
    "numeric": ("age", "bmi"),
    "categorical": ("ward",),
    "owner": "hospital",
}


def visits():
    number = np.arange(ROWS)
    return pd.DataFrame(
        {
            "age": 20 + number,
            "bmi": 20.0 + number / 8,
            "ward": np.array(["a", "b", "c"])[number % 3],
            "ill": np.array(["yes", "no"])[number % 2],
            "hospital": np.array(["St Mary", "north"])[number % 4 // 2],
            "phase": np.array(["train", "train", "val", "test"])[number % 4],
            "note": "not used",
        }
    )


@pytest.fixture
def folder(tmp_path):
    visits().to_csv(tmp_path / "visits.csv", index=False)
    return tmp_path


def change(folder, **columns):
    visits().assign(**columns).to_csv(folder / "visits.csv", index=False)


def test_table_with_owners(folder):
    dataset = Table(**COMMON, name="visits", licence="internal").load(folder)
    assert dataset.name == "visits"
    assert dataset.task.labels == ("no", "yes")
    assert dataset.features["names"] == ["age", "bmi", "ward=a", "ward=b", "ward=c"]
    assert {split: len(part) for split, part in dataset.splits.items()} == {
        "train": 29,
        "val": 3,
        "test": 8,
    }
    for part in dataset.splits.values():
        number = part.inputs[:, 0].astype(int) - 20
        assert np.array_equal(part.inputs[:, 1], (20 + number / 8).astype(np.float32))
        assert np.array_equal(part.inputs[:, 2:].argmax(axis=1), number % 3)
        assert np.array_equal(part.targets, (number % 2 == 0).astype(np.int64))
        assert np.array_equal(part.owners, np.array(["St-Mary", "north"])[number % 4 // 2])
    provenance = dataset.provenance
    assert provenance["files"][0]["name"] == "visits.csv"
    assert (provenance["licence"], provenance["rows_dropped"]) == ("internal", 0)
    assert str(folder) not in str(provenance)


def test_encoding_takes_raw_rows(folder):
    dataset = Table(**COMMON, test_fraction=0, val_fraction=0).load(folder)
    encoding = TableEncoding.from_json(dataset.features["encoding"])
    assert np.array_equal(encoding.encode(visits()), dataset.splits["train"].inputs)


@pytest.mark.parametrize("name", ["visits.csv.gz", "visits.parquet"])
def test_other_files_are_the_same_data(folder, name):
    if name.endswith("parquet"):
        visits().to_parquet(folder / name)
    else:
        visits().to_csv(folder / name, index=False)
    settings = Table(**COMMON)
    other = settings.model_copy(update={"path": str(folder / name)})
    assert other.load(None).fingerprint == settings.load(folder).fingerprint


def test_split_column(folder):
    dataset = Table(**COMMON, split="phase").load(folder)
    assert [len(part) for part in dataset.splits.values()] == [20, 10, 10]
    assert list(dataset.splits) == ["train", "val", "test"]


def test_splits_a_column_lacks_are_drawn(folder):
    change(folder, phase=np.where(np.arange(ROWS) < 30, "train", "test"))
    dataset = Table(**COMMON, split="phase", val_fraction=0.2).load(folder)
    assert {split: len(part) for split, part in dataset.splits.items()} == {
        "train": 24,
        "val": 6,
        "test": 10,
    }


@pytest.mark.parametrize(
    ("task", "values", "labels", "kind", "targets"),
    [
        ("multiclass", ["10", "9", "10", "8"], (), TaskKind.MULTICLASS, [2, 1, 2, 0]),
        (
            "ordinal",
            ["mild", "none", "bad", "none"],
            ("none", "mild", "bad"),
            "ordinal",
            [1, 0, 2, 0],
        ),
        ("binary", ["1", "0", "0", "1"], ("1", "0"), "binary", [0, 1, 1, 0]),
        ("regression", ["0.5", "1", "2", "3"], (), "regression", [0.5, 1, 2, 3]),
    ],
)
def test_tasks(folder, task, values, labels, kind, targets):
    change(folder, ill=values * 10)
    settings = Table(**COMMON, task=task, labels=labels, test_fraction=0, val_fraction=0)
    dataset = settings.load(folder)
    assert dataset.task.kind == kind
    assert dataset.splits["train"].targets[:4].tolist() == targets
    expected = np.float32 if task == "regression" else np.int64
    assert dataset.splits["train"].targets.dtype == expected
    if task == "regression":
        assert dataset.task.labels == ("ill",)


def test_multilabel(folder):
    change(folder, cough=[0, 1] * 20, fever=[1, 1, 0, 0] * 10)
    values = COMMON | {"label": "", "task": "multilabel", "labels": ("cough", "fever")}
    dataset = Table(**values, test_fraction=0, val_fraction=0).load(folder)
    assert dataset.splits["train"].targets[:4].tolist() == [[0, 1], [1, 1], [0, 0], [1, 0]]
    change(folder, cough=2, fever=0)
    with pytest.raises(ValueError, match=r"\['cough', 'fever'\] must hold 0 and 1"):
        Table(**values).load(folder)


def test_missing_policies(folder):
    age = visits()["age"].astype(str)
    age[::4] = "?"
    change(folder, age=age)
    with pytest.raises(
        ValueError, match=r"10 of 40 rows.*row 0 in \['age'\].*set data.missing: drop or"
    ):
        Table(**COMMON).load(folder)
    nothing = {"test_fraction": 0, "val_fraction": 0}
    dropped = Table(**COMMON, missing="drop", **nothing).load(folder)
    assert len(dropped.splits["train"]) == 30
    assert dropped.provenance["rows_dropped"] == 10
    marked = Table(**COMMON, missing="indicate", **nothing).load(folder)
    assert marked.splits["train"].inputs[:5, 5].tolist() == [1, 0, 0, 0, 1]
    change(folder, age="?")
    with pytest.raises(ValueError, match=r"no row left: 40 were read, 40 have a missing value"):
        Table(**COMMON, missing="drop").load(folder)


def test_categories_may_be_named(folder):
    wards = {"ward": ("c", "b", "a", "d")}
    dataset = Table(**COMMON, categories=wards, drop_first=True).load(folder)
    assert dataset.features["names"][2:] == ["ward=b", "ward=a", "ward=d"]
    with pytest.raises(
        ValueError, match=r"column 'ward' holds \['b', 'c'\]; those named are \['a'"
    ):
        Table(**COMMON, categories={"ward": ("a", "d")}).load(folder)


def test_declared_sizes_reach_the_audit(folder):
    dataset = Table(**COMMON, declared={"train": 29, "test": 8}).load(folder)
    assert dataset.provenance["declared"] == {"train": 29, "test": 8}
    assert "declared" not in Table(**COMMON).load(folder).provenance


@pytest.mark.parametrize(
    ("settings", "columns", "message"),
    [
        ({"numeric": ("age", "height")}, {}, r"has no columns \['height'\]; it has \['age'"),
        ({}, {"bmi": "thick"}, r"column 'bmi', row 0: 'thick' is no finite number"),
        ({}, {"ill": "yes"}, r"column 'ill' holds 1 labels \['yes'\], a binary task has 2"),
        ({"labels": ("no", "ja")}, {}, r"column 'ill' holds \['yes'\]; those named"),
        ({"labels": ("no", "no")}, {}, "names one twice"),
        (
            {},
            {"ill": [""] + ["no"] * 39},
            "column 'ill' has no value in 1 rows, the first is row 0",
        ),
        ({}, {"hospital": ""}, "column 'hospital' has no value in 40 rows"),
        ({}, {"hospital": "a/b"}, "owner='a/b' cannot be the id of a client"),
        ({"split": "phase"}, {"phase": "dev"}, r"column 'phase' holds \['dev'\]; a split is"),
        ({"task": "regression"}, {}, "column 'ill', row 0: 'yes' is no finite number"),
    ],
)
def test_files_unlike_their_description_are_refused(folder, settings, columns, message):
    change(folder, **columns)
    with pytest.raises(ValueError, match=message):
        Table(**COMMON | settings).load(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"numeric": (), "categorical": (), "owner": None}, "name the columns to learn from"),
        ({"numeric": ("age", "ill")}, r"columns \['ill'\] have two roles"),
        ({"categories": {"sex": ("f",)}}, r"categories names \['sex'\], categorical does not"),
        ({"label": ""}, "label='' with task='binary'"),
        ({"task": "multilabel"}, "label='ill' with task='multilabel'"),
        ({"task": "multilabel", "label": ""}, "labels=.*0/1 columns"),
        ({"name": "My Data"}, "name"),
    ],
)
def test_senseless_settings_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Table(**COMMON | settings)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("visits.csv", b"", "cannot be read as a UTF-8 CSV file: No columns"),
        ("visits.csv", b"\x89PNG\r\n\x1a\n", "cannot be read as a UTF-8 CSV file"),
        ("visits.csv", b"age,bmi,ward,ill,hospital\n", "has no rows, only column names"),
        ("visits.csv.gz", b"age,bmi", "cannot be read as a UTF-8 CSV file"),
        ("visits.parquet", b"age,bmi", "cannot be read as a parquet file"),
    ],
)
def test_unreadable_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        Table(**COMMON | {"path": name}).load(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_other_files_are_refused(folder):
    (folder / "visits.xlsx").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"path='visits.xlsx': a table is a .csv"):
        Table(**COMMON | {"path": "visits.xlsx"}).load(folder)
    with pytest.raises(DataNotFound, match="there is nothing at"):
        Table(**COMMON | {"path": "visit.csv"}).load(folder)
