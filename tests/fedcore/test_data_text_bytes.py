"""Texts as rows of bytes come back as they were; what counts as the same text; folds by text."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.data.folds import assign_folds
from fedcore.data.same_text import normalised, same_texts, text_digest
from fedcore.data.text_bytes import pack, read_text, unpack

FEW = settings(max_examples=40, deadline=None)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)


@FEW
@given(st.lists(TEXT, max_size=6))
def test_texts_come_back(texts):
    packed = pack(texts)
    assert packed.dtype == np.uint8 and packed.shape[0] == len(texts) and packed.shape[1] >= 1
    assert unpack(packed) == [unicodedata.normalize("NFC", text) for text in texts]
    assert np.array_equal(pack(unpack(packed), packed.shape[1]), packed)


@FEW
@given(TEXT, st.integers(1, 30))
def test_longer_texts_are_cut_at_the_last_character_that_fits(text, most):
    [kept] = unpack(pack([text], most))
    whole = unicodedata.normalize("NFC", text)
    assert whole.startswith(kept) and len(kept.encode()) <= most
    following = whole[len(kept) : len(kept) + 1]
    assert not following or len((kept + following).encode()) > most


def test_rows_are_utf_8_padded_with_zeros():
    assert pack(["né", ""], 5).tolist() == [[110, 195, 169, 0, 0], [0] * 5]
    assert pack([], 7).shape == (0, 7) and pack([""]).shape == (1, 1)
    assert pack(["e\u0301"]).tolist() == [[195, 169]]  # composed


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["fine", "secret\0word"], "text 1 holds a NUL character"),
        (["secret \ud800"], r"text 0 is no valid Unicode .* character 7"),
    ],
)
def test_what_cannot_be_packed_is_refused_without_being_told(texts, message):
    with pytest.raises(ValueError, match=message) as caught:
        pack(texts, 30)
    assert "secret" not in str(caught.value)


def test_other_arrays_are_no_texts():
    with pytest.raises(ValueError, match=r"dtype float32 and shape \(2, 3\) are no texts"):
        unpack(np.zeros((2, 3), np.float32))
    for row in ([97, 0, 98], [195, 0, 0], [255, 254, 253]):
        wrong = np.array([[97, 98, 99], row], np.uint8)
        assert read_text(wrong[1]) is None
        with pytest.raises(ValueError, match="row 1 of the inputs is no text"):
            unpack(wrong)
    with pytest.raises(ValueError, match="most_bytes=0"):
        pack(["a"], 0)


@FEW
@given(TEXT)
def test_normalising_twice_changes_nothing(text):
    assert normalised(normalised(text)) == normalised(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The patient\nis well.", " the  PATIENT is well. "),
        ("naïve", "nai\u0308ve"),
        ("ﬁbroma 10 µg", "fibroma 10 μg"),
        ("Ⅳ grade", "iv GRADE"),
        ("Straße", "STRASSE"),
        ("a\u00a0b", "a b"),
    ],
)
def test_the_same_text(one, other):
    assert normalised(one) == normalised(other)
    assert text_digest(one) == text_digest(other)
    assert same_texts([one, "else", other]).tolist() == [0, 1, 0]


@pytest.mark.parametrize("other", ["the patient is well", "The patient is ill.", ""])
def test_not_the_same_text(other):
    assert normalised("The patient is well.") != normalised(other)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_folds_keep_keys_together_and_share_strata(seed, count):
    rng = np.random.default_rng(seed)
    keys = [f"k{key}" for key in rng.integers(0, 40, 100)]
    strata = rng.integers(0, 3, 100)
    folds = assign_folds(keys, strata, count, "x")
    of = {}
    for key, fold in zip(keys, folds.tolist(), strict=True):
        assert of.setdefault(key, fold) == fold
    sizes = np.bincount(list(of.values()), minlength=count)
    assert sizes.max() - sizes.min() <= 1
    kinds = {}
    for key in of:
        kind = tuple(sorted(strata[[k == key for k in keys]].tolist()))
        kinds.setdefault(kind, []).append(of[key])
    for found in kinds.values():
        each = np.bincount(found, minlength=count)
        assert each.max() - each.min() <= 1


def test_folds_do_not_depend_on_the_order_of_rows_and_change_with_the_name():
    keys, strata = [f"k{i % 30}" for i in range(50)], np.arange(50) % 30 % 3
    folds = assign_folds(keys, strata, 5, "x")
    order = np.random.default_rng(0).permutation(50)
    again = assign_folds([keys[i] for i in order], strata[order], 5, "x")
    assert np.array_equal(again, folds[order])
    assert not np.array_equal(assign_folds(keys, strata, 5, "y"), folds)
    # Golden: a property of the data, so it may never change between releases or machines.
    assert folds[:10].tolist() == GOLDEN


GOLDEN = [1, 4, 4, 4, 0, 4, 3, 3, 3, 4]


@pytest.mark.parametrize("count", [1, 3])
def test_as_many_folds_as_there_can_be(count):
    with pytest.raises(ValueError, match=f"count={count}: from 2 folds up to .* 2 keys"):
        assign_folds(["a", "b", "a"], np.zeros(3, np.int64), count, "x")
