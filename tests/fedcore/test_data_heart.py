"""Heart disease: the rows, columns and split of FLamby, computed on a second road."""

import shutil

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.model_selection import train_test_split

from fedcore.data.checksum import ChecksumMismatch
from fedcore.data.download import DataNotFound
from fedcore.data.encoding import TableEncoding
from fedcore.data.heart import HOSPITALS, HeartDisease, read_hospital


def test_rows_per_hospital_as_flamby_publishes(fedloom_data):
    # FLamby, README of Fed-Heart-Disease: 199/104, 172/89, 30/16, 85/45; 740 rows.
    dataset = HeartDisease(download=False).load(fedloom_data)
    counts = {
        owner: tuple(int((part.owners == owner).sum()) for part in dataset.splits.values())
        for owner in ("cleveland", "hungary", "switzerland", "va")
    }
    assert counts == {
        "cleveland": (199, 104),
        "hungary": (172, 89),
        "switzerland": (30, 16),
        "va": (85, 45),
    }
    assert dataset.provenance["declared"] == {"train": 486, "test": 254}
    assert list(dataset.splits) == ["train", "test"]
    assert sum(int(part.targets.sum()) for part in dataset.splits.values()) == 383


def test_values_and_split_by_another_road(fedloom_data):
    """get_dummies over all hospitals at once, as published, against our encoding row by row."""
    dataset = HeartDisease(download=False).load(fedloom_data)
    frames, tests = [], []
    for hospital in HOSPITALS:
        raw = pd.read_csv(fedloom_data / "heart" / hospital.file, header=None, na_values="?")
        rows = raw[[*range(10), 13]].dropna().astype(float)
        sick = rows[13].gt(0)
        stratify = sick if min(sick.sum(), (~sick).sum()) > 2 else None
        _, test = train_test_split(
            np.arange(len(rows)),
            test_size=1.0 - 0.66,
            train_size=0.66,
            random_state=43,
            stratify=stratify,
        )
        tests.append(np.isin(np.arange(len(rows)), test))
        frames.append(rows)
    rows = pd.concat(frames, ignore_index=True)
    dummies = pd.get_dummies(rows[range(10)], columns=[2, 6], drop_first=True)
    is_test = np.concatenate(tests)
    for split, chosen in (("train", ~is_test), ("test", is_test)):
        expected = dummies[chosen].to_numpy(np.float32)
        assert expected.shape[1] == 13
        assert np.array_equal(dataset.splits[split].inputs, expected)
        assert np.array_equal(dataset.splits[split].targets, rows[13][chosen].gt(0).to_numpy(int))


def test_first_row_of_cleveland(fedloom_data):
    dataset = HeartDisease(download=False).load(fedloom_data)
    frame = read_hospital(fedloom_data / "heart" / "processed.cleveland.data")
    encoding = TableEncoding.from_json(dataset.features["encoding"])
    row = [63, 1, 145, 233, 1, 150, 0, 2.3, 0, 0, 0, 0, 1]
    assert np.allclose(encoding.encode(frame)[0], row)
    assert dataset.features["names"][8:] == ["cp=2", "cp=3", "cp=4", "restecg=1", "restecg=2"]


def test_validation_comes_from_each_hospital_and_leaves_the_test_rows(fedloom_data):
    whole = HeartDisease(download=False).load(fedloom_data)
    parts = HeartDisease(download=False, val_fraction=0.2).load(fedloom_data)
    sizes = {split: len(part) for split, part in parts.splits.items()}
    assert sizes == parts.provenance["declared"] == {"train": 389, "val": 97, "test": 254}
    assert set(parts.splits["val"].owners) == {"cleveland", "hungary", "switzerland", "va"}
    assert np.array_equal(parts.splits["test"].inputs, whole.splits["test"].inputs)


def test_altered_file_is_refused(tmp_path):
    (tmp_path / "heart").mkdir()
    (tmp_path / "heart" / "processed.cleveland.data").write_text("63,1,1,145\n")
    with pytest.raises(ChecksumMismatch, match=r"processed.cleveland.data has md5"):
        HeartDisease(download=False).load(tmp_path)


def test_no_file_says_where(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataNotFound, match=r"processed.cleveland.data was not found in .*heart"):
        HeartDisease(download=False).load(tmp_path)


def test_incomplete_rows_are_dropped_and_strange_ones_refused(tmp_path):
    path = tmp_path / "processed.va.data"
    row = "63,1,4,140,260,0,1,112,1,3,2,?,?,2\n"
    path.write_text(row + row.replace("140", "?") + row.replace("260", "0"))
    assert read_hospital(path)["chol"].tolist() == [260, 0]
    path.write_text(row.replace("140", "high"))
    with pytest.raises(ValueError, match="column 'trestbps', row 0: 'high' is no finite number"):
        read_hospital(path)


@pytest.mark.parametrize("val_fraction", [0.0, 0.2])
def test_a_hospital_alone_has_the_rows_and_the_split_of_the_joint_load(
    fedloom_data, tmp_path, val_fraction
):
    joint = HeartDisease(download=False, val_fraction=val_fraction).load(fedloom_data)
    for hospital in HOSPITALS:
        home = tmp_path / hospital.owner
        (home / "heart").mkdir(parents=True)
        shutil.copy(fedloom_data / "heart" / hospital.file, home / "heart")
        settings = HeartDisease(
            download=False, val_fraction=val_fraction, hospitals=(hospital.owner,)
        )
        alone = settings.load(home)
        assert list(alone.splits) == list(joint.splits)
        for split, part in joint.splits.items():
            own = part.take(np.flatnonzero(part.owners == hospital.owner))
            assert np.array_equal(alone.splits[split].inputs, own.inputs)
            assert np.array_equal(alone.splits[split].targets, own.targets)
            assert alone.provenance["declared"][split] == len(own)
        assert alone.features == joint.features and alone.task == joint.task


def test_hospitals_keep_their_order_and_are_named_once(fedloom_data):
    two = HeartDisease(download=False, hospitals=("va", "hungary"))
    assert two.hospitals == ("hungary", "va")
    assert set(two.load(fedloom_data).splits["train"].owners) == {"hungary", "va"}
    with pytest.raises(ValidationError, match=r"\['va', 'va'\] names one twice; name each once"):
        HeartDisease(hospitals=("va", "va"))


def test_a_fraction_that_leaves_a_hospital_without_validation_names_it(fedloom_data):
    with pytest.raises(ValueError, match="of the 30 training samples of heart_disease switzerland"):
        HeartDisease(download=False, val_fraction=0.01).load(fedloom_data)
