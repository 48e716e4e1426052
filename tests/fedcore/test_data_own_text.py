"""A user's own texts, from every kind of file: the same data set, split by text."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from fedcore.data.download import DataNotFound
from fedcore.data.same_text import normalised
from fedcore.data.text import Text
from fedcore.data.text_bytes import unpack
from fedcore.task import TaskKind

ROWS = 60
COMMON = {"path": "notes.csv", "text": "note", "label": "finding", "owner": "hospital"}


def notes():
    number = np.arange(ROWS)
    return pd.DataFrame(
        {
            "note": [f"Patient {i} « résumé:\nall well, NA." for i in number],
            "finding": np.array(["normal", "3", "urgent"])[number % 3],
            "hospital": np.array(["St Mary", "north"])[number % 4 // 2],
            "phase": np.array(["train", "train", "val", "test"])[number % 4],
            "score": number / 8,
            "fever": number % 2,
            "cough": number // 2 % 2,
        }
    )


def write(folder, kind, frame=None):
    """The notes as a file (or folder) of a kind; its name."""
    frame = notes() if frame is None else frame
    path = folder / f"notes{kind}"
    if kind == ".parquet":
        frame.to_parquet(path)
    elif kind.startswith(".jsonl"):
        frame.to_json(path, orient="records", lines=True)
    elif kind.startswith(".csv"):
        frame.to_csv(path, index=False)
    else:
        import datasets

        saved = datasets.Dataset.from_pandas(frame, preserve_index=False)
        saved.class_encode_column("finding").save_to_disk(path)
    return path.name


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, ".csv")
    return tmp_path


def test_texts_with_owners(folder):
    dataset = Text(**COMMON, name="notes", licence="internal").load(folder)
    assert dataset.kind == "text" and dataset.features == {"kind": "text", "most_bytes": 4096}
    assert dataset.task.kind is TaskKind.MULTICLASS
    assert dataset.task.labels == ("3", "normal", "urgent")
    sizes = {split: len(part) for split, part in dataset.splits.items()}
    assert sizes == {"train": 43, "val": 5, "test": 12}
    seen = []
    for part in dataset.splits.values():
        assert part.inputs.dtype == np.uint8 and part.inputs.shape[1] == 4096
        texts = unpack(part.inputs)
        at = np.array([int(text.split()[1]) for text in texts])
        assert texts == notes()["note"][at].tolist()
        assert [dataset.task.labels[t] for t in part.targets] == notes()["finding"][at].tolist()
        assert np.array_equal(part.owners, np.array(["St-Mary", "north"])[at % 4 // 2])
        seen += at.tolist()
    assert sorted(seen) == list(range(ROWS))
    [file] = dataset.provenance["files"]
    assert file["name"] == "notes.csv" and str(folder) not in str(dataset.provenance)


@pytest.mark.parametrize("kind", [".csv.gz", ".jsonl", ".jsonl.gz", ".parquet", "-saved"])
def test_every_kind_of_file_is_the_same_data(folder, kind):
    expected = Text(**COMMON).load(folder)
    found = Text(**COMMON | {"path": write(folder, kind)}).load(folder)
    assert found.fingerprint == expected.fingerprint
    assert found.provenance["files"][0]["md5"]


def test_a_saved_folder_with_splits(tmp_path):
    import datasets

    whole = notes()
    names = {"train": "train", "validation": "val", "test": "test"}
    datasets.DatasetDict(
        {
            name: datasets.Dataset.from_pandas(whole[whole["phase"] == split])
            for name, split in names.items()
        }
    ).save_to_disk(tmp_path / "saved")
    write(tmp_path, ".csv")
    expected = Text(**COMMON, split="phase").load(tmp_path)
    assert {split: len(part) for split, part in expected.splits.items()} == {
        "train": 30,
        "val": 15,
        "test": 15,
    }
    found = Text(**COMMON | {"path": "saved"}).load(tmp_path)
    assert found.fingerprint == expected.fingerprint
    with pytest.raises(ValueError, match=r"split='phase' names a column, but the folder has"):
        Text(**COMMON | {"path": "saved"}, split="phase").load(tmp_path)


@pytest.mark.parametrize("fractions", [(0.2, 0.1), (0.5, 0.3)])
def test_rows_of_one_text_are_in_one_split(tmp_path, fractions):
    # Each text three times, written otherwise and under other labels and owners.
    whole = notes()
    third = np.arange(ROWS) % 20
    ways = [str.upper, "  {}\n".format, lambda text: text.replace("é", "e\u0301")]
    whole["note"] = [
        ways[i // 20](f"Note {j}: résumé") for i, j in zip(range(ROWS), third, strict=True)
    ]
    write(tmp_path, ".csv", whole)
    test, val = fractions
    dataset = Text(**COMMON, test_fraction=test, val_fraction=val).load(tmp_path)
    places = {}
    for split, part in dataset.splits.items():
        for text in unpack(part.inputs):
            places.setdefault(normalised(text), []).append(split)
    assert len(places) == 20
    assert all(len(found) == 3 and len(set(found)) == 1 for found in places.values())
    assert len(dataset.splits["test"]) == 3 * round(20 * test)


def test_texts_are_kept_as_they_are(tmp_path):
    whole = notes()
    whole.loc[:3, "note"] = ["NA", "", "?", "  "]
    write(tmp_path, ".csv", whole)
    dataset = Text(**COMMON, split="phase").load(tmp_path)
    assert unpack(dataset.splits["train"].inputs)[:2] == ["NA", ""]
    assert unpack(dataset.splits["val"].inputs)[0] == "?"
    assert unpack(dataset.splits["test"].inputs)[0] == "  "


def test_other_tasks(folder):
    many = Text(**COMMON | {"label": ""}, task="multilabel", labels=("cough", "fever")).load(folder)
    assert many.task.kind is TaskKind.MULTILABEL and many.splits["train"].targets.shape[1] == 2
    score = Text(**COMMON | {"label": "score"}, task="regression").load(folder)
    assert score.splits["train"].targets.dtype == np.float32
    ordered = Text(**COMMON, task="ordinal", labels=("normal", "3", "urgent")).load(folder)
    assert ordered.task.labels == ("normal", "3", "urgent")


def test_long_texts_are_cut(folder):
    dataset = Text(**COMMON, most_bytes=16).load(folder)
    assert dataset.splits["train"].inputs.shape[1] == 16
    assert all(text.endswith(("«", "« ", "« r")) for text in unpack(dataset.splits["val"].inputs))


@pytest.mark.parametrize(
    ("settings", "columns", "message"),
    [
        ({"text": "body"}, {}, r"no columns \['body'\]; it has \['note', "),
        ({"text": "score"}, {}, None),
        ({}, {"finding": [""] + ["a"] * (ROWS - 1)}, "column 'finding' has no value in 1 rows"),
        ({}, {"hospital": "?"}, "column 'hospital' has no value in 60 rows"),
        ({"labels": ("normal", "urgent")}, {}, r"column 'finding' holds \['3'\]; those named"),
        ({"task": "binary"}, {}, "holds 3 labels"),
        ({"split": "phase"}, {"phase": "dev"}, r"column 'phase' holds \['dev'\]; a split is"),
        ({}, {"note": "a\0b"}, "holds a NUL character"),
    ],
)
def test_files_unlike_their_description_are_refused(tmp_path, settings, columns, message):
    write(tmp_path, ".csv", notes().assign(**columns))
    if message is None:  # numbers in a CSV are texts
        Text(**COMMON | settings).load(tmp_path)
        return
    with pytest.raises(ValueError, match=message):
        Text(**COMMON | settings).load(tmp_path)


def test_numbers_are_no_texts(tmp_path):
    path = write(tmp_path, ".parquet")
    with pytest.raises(ValueError, match="column 'score', row 0: a float is no text"):
        Text(**COMMON | {"path": path, "text": "score"}).load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text": "finding"}, r"columns \['finding'\] have two roles"),
        ({"label": ""}, "label='' with task='multiclass'"),
        ({"task": "multilabel", "label": ""}, "labels=.*0/1 columns"),
        ({"most_bytes": 0}, "most_bytes"),
        ({"text": ""}, "text"),
    ],
)
def test_senseless_settings_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Text(**COMMON | settings)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.jsonl", b'{"note": "a"', "cannot be read as a UTF-8 JSON lines file"),
        ("notes.jsonl", b"[1, 2]\n", "no columns"),
        ("notes.parquet.gz", b"", "path='notes.parquet.gz': a table is a .csv"),
        ("notes.txt", b"a", "path='notes.txt': a table is a .csv"),
        ("notes", None, "is no folder that `datasets` has saved"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Text(**COMMON | {"path": name}).load(tmp_path)


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(DataNotFound, match="there is nothing at"):
        Text(**COMMON).load(tmp_path)
