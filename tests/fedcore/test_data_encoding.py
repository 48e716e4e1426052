"""Tables to numbers: laws of the encoding and refusal of what it does not know."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.data.encoding import TableEncoding, category_texts

ENCODING = TableEncoding(
    numeric=("age", "chol"), categorical=(("cp", ("1", "2", "3")), ("sex", ("f", "m")))
)
FRAME = pd.DataFrame({"cp": [3, 1], "sex": ["m", "f"], "age": [63.0, 41.5], "chol": [233, 0]})


def test_golden():
    assert ENCODING.names == ("age", "chol", "cp=1", "cp=2", "cp=3", "sex=f", "sex=m")
    encoded = ENCODING.encode(FRAME)
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [[63, 233, 0, 0, 1, 0, 1], [41.5, 0, 1, 0, 0, 1, 0]]


def test_same_as_get_dummies_without_first_level():
    encoding = TableEncoding(ENCODING.numeric, ENCODING.categorical, drop_first=True)
    frame = FRAME.assign(cp=pd.Categorical(FRAME["cp"], [1, 2, 3]))
    expected = pd.get_dummies(
        frame[["age", "chol", "cp", "sex"]], columns=["cp", "sex"], drop_first=True
    )
    assert np.array_equal(encoding.encode(FRAME), expected.to_numpy(np.float32))


@given(
    st.lists(
        st.tuples(st.floats(-1e6, 1e6, width=32), st.sampled_from(["1", "2", "3"])),
        min_size=1,
        max_size=20,
    )
)
def test_one_hot_rows_sum_to_one_and_numbers_stay(rows):
    encoding = TableEncoding(("x",), (("c", ("1", "2", "3")),))
    frame = pd.DataFrame(rows, columns=["x", "c"])
    encoded = encoding.encode(frame)
    assert np.array_equal(encoded[:, 0], frame["x"].to_numpy(np.float32))
    assert (encoded[:, 1:].sum(axis=1) == 1).all()
    assert (encoded[:, 1:].argmax(axis=1) + 1).astype(str).tolist() == frame["c"].tolist()


def test_json_round_trip_gives_the_same_numbers():
    again = TableEncoding.from_json(json.loads(json.dumps(ENCODING.to_json())))
    assert again == ENCODING
    assert np.array_equal(again.encode(FRAME), ENCODING.encode(FRAME))
    assert ENCODING.features()["names"] == list(ENCODING.names)


@pytest.mark.parametrize(
    "cp", [[3, 1], [3.0, 1.0], ["3", "1"], ["3.0", "1"], pd.array([3, 1], dtype="Int64")]
)
def test_whole_numbers_are_one_category_however_written(cp):
    frame = FRAME.assign(cp=cp)
    assert np.array_equal(ENCODING.encode(frame), ENCODING.encode(FRAME))


def test_leading_zeros_and_decimals_stay_text():
    assert category_texts(pd.Series(["01", "1.50", "-2.0", "x.0"])) == ["01", "1.50", "-2", "x.0"]
    assert category_texts(pd.Series([True, 2.5], dtype=object)) == ["True", "2.5"]


def test_numbers_may_be_texts_and_order_of_columns_does_not_matter():
    frame = FRAME.assign(age=["63.0", "41.5"], other="x")[["other", "chol", "sex", "age", "cp"]]
    assert np.array_equal(ENCODING.encode(frame), ENCODING.encode(FRAME))


def test_index_of_rows_does_not_matter():
    assert np.array_equal(
        ENCODING.encode(FRAME.set_index(pd.Index([9, 9]))), ENCODING.encode(FRAME)
    )


def test_no_rows():
    assert ENCODING.encode(FRAME[:0]).shape == (0, 7)


def test_missing_is_indicated():
    encoding = TableEncoding(("age",), (("sex", ("f", "m")),), missing="indicate")
    assert encoding.names == ("age", "sex=f", "sex=m", "age is missing", "sex is missing")
    frame = pd.DataFrame({"age": [None, 5.0], "sex": ["m", None]})
    assert encoding.encode(frame).tolist() == [[0, 0, 1, 1, 0], [5, 0, 0, 0, 1]]
    assert encoding.complete(frame).tolist() == [False, False]


@pytest.mark.parametrize("missing", ["refuse", "drop"])
def test_missing_is_refused_with_row_and_column(missing):
    encoding = TableEncoding(("age", "chol"), missing=missing)
    frame = FRAME.assign(chol=[1.0, None])
    assert encoding.complete(frame).tolist() == [True, False]
    with pytest.raises(ValueError, match=r"1 of 2 rows.*row 1 in \['chol'\].*missing='" + missing):
        encoding.encode(frame)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cp": [4, 1]}, r"column 'cp' holds unknown categories \['4'\].*row 0.*\['1', '2', '3'\]"),
        ({"age": [1.0, "old"]}, r"column 'age', row 1: 'old' is no finite number"),
        ({"age": [np.inf, 1.0]}, r"column 'age', row 0: .*inf.* is no finite number"),
    ],
)
def test_strange_values_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ENCODING.encode(FRAME.assign(**change))


def test_missing_columns_are_named():
    with pytest.raises(ValueError, match=r"columns \['cp', 'sex'\] are missing.*given were"):
        ENCODING.encode(FRAME[["age", "chol"]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs a column"),
        ({"numeric": ("a", "a")}, r"columns \['a'\] are named twice"),
        ({"categorical": (("a", ()),)}, "categories of 'a'"),
        ({"categorical": (("a", ("x", "x")),)}, "each once"),
    ],
)
def test_senseless_encodings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TableEncoding(**arguments)
