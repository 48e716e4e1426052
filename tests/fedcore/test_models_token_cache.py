"""Kept token ids: the same as without, named by what decides them, believed only when intact."""

import pickle
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch

from fedcore.data.text_bytes import pack
from fedcore.digests import digest_arrays
from fedcore.models import token_cache
from fedcore.models.build import build_model
from fedcore.models.settings import TextTransformerSettings
from fedcore.models.state import trainable_state
from fedcore.task import Task, TaskKind
from fedcore.training.settings import LoopSettings
from fedcore.training.train import predict, train

TEXTS = ["the cat sat on a mat", "", "a dog ran", "the the the", "x" * 70, "cat"] * 2
INPUTS = pack(TEXTS, 80)
TEXT = {"kind": "text", "most_bytes": 80}
ALL = np.arange(len(INPUTS))
THREE = Task(TaskKind.MULTICLASS, ("a", "b", "c"))


def preprocess(folder, max_tokens=8):
    return TextTransformerSettings(name=str(folder), max_tokens=max_tokens).preprocess(TEXT)


def files(folder):
    return sorted(folder.rglob("*.arrow"))


@pytest.fixture
def counted(monkeypatch):
    """How many texts were tokenised, each time."""
    calls = []
    mapped = token_cache._mapped

    def counting(tokenise, texts, *rest):
        calls.append(len(texts))
        return mapped(tokenise, texts, *rest)

    monkeypatch.setattr(token_cache, "_mapped", counting)
    return calls


def test_kept_ids_are_those_of_the_tokenizer(tiny_bert, tmp_path, counted, monkeypatch) -> None:
    monkeypatch.setattr(token_cache, "BATCH", 5)
    how = preprocess(tiny_bert)
    expected = how.apply(INPUTS)
    for cache in (None, tmp_path, tmp_path):
        read = how.reader(INPUTS, cache)
        found = read(ALL)
        assert torch.equal(found, expected) and found.dtype == expected.dtype
        assert torch.equal(read(np.array([3, 0, 3])), expected[[3, 0, 3]])
    assert counted == [len(TEXTS)], "once"
    [path] = files(tmp_path)
    assert not list(tmp_path.rglob("*.part"))
    opened = datasets.Dataset.from_file(str(path))
    assert opened["ids"][:] == expected.tolist()


def test_a_file_for_all_that_decides_the_ids(tiny_bert, tmp_path, counted) -> None:
    how, other = preprocess(tiny_bert), shutil.copytree(tiny_bert, tmp_path / "other")
    words = (other / "vocab.txt").read_text()
    same = shutil.copytree(tiny_bert, tmp_path / "same")
    (other / "vocab.txt").write_text(words.replace("cat", "cow"))
    cache = tmp_path / "cache"
    asked = [how, preprocess(tiny_bert, 9), preprocess(other)]
    found = [one.reader(INPUTS, cache)(ALL) for one in asked]
    asked[0].reader(INPUTS[1:], cache)
    assert len(files(cache)) == len(counted) == 4
    preprocess(same).reader(INPUTS.copy(), cache)
    assert len(counted) == 4, "where a tokenizer lies decides nothing"
    for one, ids in zip(asked, found, strict=True):
        assert torch.equal(ids, one.apply(INPUTS))
    assert not torch.equal(found[0], found[2])


def test_ids_of_the_planned_tokenizer_or_none(tiny_bert, tmp_path) -> None:
    folder = shutil.copytree(tiny_bert, tmp_path / "bert")
    how = preprocess(folder)
    expected = how.reader(INPUTS, tmp_path)(ALL)
    (folder / "vocab.txt").write_text((folder / "vocab.txt").read_text().replace("cat", "cow"))
    assert torch.equal(how.reader(INPUTS, tmp_path)(ALL), expected)
    with pytest.raises(ValueError, match="another tokenizer than the one that was planned"):
        how.reader(INPUTS[1:], tmp_path)


def test_causal_ids_are_kept_apart_from_others(tiny_gpt2, tmp_path, counted) -> None:
    from fedcore.models.causal_settings import CausalTransformerSettings

    hows = [
        CausalTransformerSettings(name=str(tiny_gpt2), max_tokens=most).preprocess(TEXT)
        for most in (6, 8)
    ]
    for how in hows * 2:
        assert torch.equal(how.reader(INPUTS, tmp_path)(ALL), how.apply(INPUTS))
    # The same in all but what stands at a text's beginning.
    begun = replace(hows[0], begin=(1,))
    assert torch.equal(begun.reader(INPUTS, tmp_path)(ALL), begun.apply(INPUTS))
    assert len(counted) == len(files(tmp_path)) == 3


class Bomb:
    def __reduce__(self):
        return (sys.exit, ("unpickled",))


@pytest.mark.parametrize("damage", ["torn", "empty", "noise", "pickle", "altered", "foreign"])
def test_a_file_that_is_not_what_was_kept_is_made_again(tiny_bert, tmp_path, damage) -> None:
    how = preprocess(tiny_bert)
    expected = how.reader(INPUTS, tmp_path)(ALL)
    [path] = files(tmp_path)
    content = path.read_bytes()
    how.reader(INPUTS[::-1], tmp_path / "other")
    [foreign] = files(tmp_path / "other")
    bad = {
        "torn": content[: len(content) // 2],
        "empty": b"",
        "noise": np.random.default_rng(0).bytes(len(content)),
        "pickle": pickle.dumps(Bomb()),
        "altered": content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
        "foreign": foreign.read_bytes(),
    }
    path.write_bytes(bad[damage])
    with pytest.warns(UserWarning, match=r"cached tokens \w+.arrow are damaged; computed again"):
        assert torch.equal(how.reader(INPUTS, tmp_path)(ALL), expected)
    assert path.read_bytes() == content, "and kept again"


def test_nothing_is_said_and_bars_come_back(tiny_bert, tmp_path, capfd, recwarn) -> None:
    assert not datasets.are_progress_bars_disabled()
    how = preprocess(tiny_bert)
    for _ in range(2):
        how.reader(INPUTS, tmp_path)
    assert capfd.readouterr() == ("", "") and not list(recwarn)
    assert not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        how.reader(INPUTS[1:], tmp_path)
        assert datasets.are_progress_bars_disabled()
    finally:
        datasets.enable_progress_bars()


def test_fingerprints_are_given_not_made_of_pickles(tiny_bert, tmp_path, monkeypatch) -> None:
    def refuse(*args, **kwargs):
        raise AssertionError("the texts or the function were pickled")

    monkeypatch.setattr("datasets.arrow_dataset.generate_fingerprint", refuse)
    monkeypatch.setattr("datasets.arrow_dataset.update_fingerprint", refuse)
    for _ in range(2):
        preprocess(tiny_bert).reader(INPUTS, tmp_path)


def test_many_at_once_leave_one_whole_file(tiny_bert, tmp_path) -> None:
    def write(number):
        ids = np.full((2, 3), 7, np.int32)
        return token_cache.kept_ids(lambda texts: ids[: len(texts)], ["a", "b"], 3, "ab", tmp_path)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(write, range(8)))
    assert all((ids == 7).all() for ids in found)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["ab.arrow"]


def test_a_folder_that_cannot_be_written_costs_only_time(tiny_bert, tmp_path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    how = preprocess(tiny_bert)
    with pytest.warns(UserWarning, match="tokens were not kept"):
        assert torch.equal(how.reader(INPUTS, blocked)(ALL), how.apply(INPUTS))


def test_no_texts_and_what_is_no_text(tiny_bert, tmp_path) -> None:
    how = preprocess(tiny_bert)
    assert how.reader(INPUTS[:0], tmp_path)(ALL[:0]).shape == (0, 8)
    with pytest.raises(ValueError, match="row 0 of the inputs is no text"):
        how.reader(np.full((1, 80), 255, np.uint8), tmp_path)
    assert not files(tmp_path)


@pytest.mark.parametrize("mode", ["head", "adapters", "full"])
def test_a_cache_changes_no_bit_of_a_result(tiny_bert, tmp_path, mode, counted) -> None:
    chosen = TextTransformerSettings(
        name=str(tiny_bert), max_tokens=8, base="float32", mode=mode, adapter={"layers": 1}
    )
    seen = set()
    for cache in (None, tmp_path, tmp_path):
        model = build_model(chosen, THREE, (8,), seed=0)
        rows = {"preprocess": preprocess(tiny_bert), "cache": cache}
        train(
            model,
            INPUTS,
            ALL % 3,
            task=THREE,
            settings=LoopSettings(batch_size=4, optimizer="adamw"),
            learning_rate=0.02,
            seed=3,
            **rows,
        )
        logits = predict(model, INPUTS, **rows)
        seen.add((digest_arrays(trainable_state(model)), logits.tobytes()))
    assert len(seen) == 1
    assert counted == [len(INPUTS)] and len(files(tmp_path)) == 1
