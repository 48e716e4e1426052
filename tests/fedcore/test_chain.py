"""The round chain and the memo: nothing altered passes, nobody writes twice."""

import json
from dataclasses import replace

import pytest

from fedcore import memo
from fedcore.chain import Chain, ChainBroken, RoundRecord, RunTakenOver
from fedcore.digests import digest_json
from fedcore.outcomes import ClientUpdate, Done, Evaluation, outcome_from_json, outcome_to_json
from fedcore.refs import Ref
from fedcore.store import Store

MODEL = Ref("a" * 64, 10, "model")


def record(number, previous, **changes):
    values = {
        "round": number,
        "previous": previous,
        "plan": "p",
        "parent": MODEL,
        "cohort": ("a", "b"),
        "outcomes": {"a": {"status": "done", "num_examples": 3}},
        "model": MODEL,
        "state": None,
        "metrics": {"val": {"overall": {"loss": 0.1}}},
    }
    return RoundRecord(**(values | changes))


@pytest.fixture
def chain(tmp_path):
    chain = Chain(Store(tmp_path), "run-1")
    chain.begin({"config": 1})
    for number in (1, 2, 3):
        chain.append(record(number, chain.head()))
    return chain


def test_records_come_back_equal_and_linked(chain):
    records = list(chain.records())
    assert [r.round for r in records] == [1, 2, 3]
    assert records[1].previous == records[0].digest and chain.head() == records[2].digest
    assert RoundRecord.from_json(records[0].to_json()) == records[0]


@pytest.mark.parametrize("name", ["header.json", "rounds/000001.json", "rounds/000002.json"])
def test_any_changed_byte_is_found(chain, name):
    path = f"runs/run-1/{name}"
    data = bytearray(chain.store.read(path))
    for position in range(len(data)):
        changed = bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        chain.store.write(path, changed)
        with pytest.raises((ChainBroken, ValueError)):
            list(chain.records())
    chain.store.write(path, bytes(data))
    assert len(list(chain.records())) == 3


def test_a_removed_round_is_found(chain):
    chain.store.remove("runs/run-1/rounds/000001.json")
    with pytest.raises(ChainBroken, match="round 1 of run run-1 is missing, but a later"):
        list(chain.records())
    chain.append(record(1, digest_json({"config": 1}), plan="other"))
    with pytest.raises(ChainBroken, match="round 2 of run run-1 does not follow"):
        list(chain.records())


def test_a_second_writer_stops(chain):
    with pytest.raises(RunTakenOver, match="round 3 of run run-1 was committed by another"):
        chain.append(record(3, chain.head()))


def test_a_run_begins_once(chain):
    chain.begin({"config": 1})
    with pytest.raises(ChainBroken, match="started with another config"):
        chain.begin({"config": 2})
    with pytest.raises(LookupError, match="no run 'run-2'"):
        Chain(chain.store, "run-2").header()
    with pytest.raises(ValueError, match="must match"):
        Chain(chain.store, "../run")


def test_annotations_are_outside_the_chain(chain):
    head = chain.head()
    chain.annotate("times", {"seconds": 1.5})
    assert chain.annotation("times") == {"seconds": 1.5} and chain.head() == head
    assert chain.annotation("other") is None


def done(store, key="k" * 64):
    ref = store.put(b"delta", "delta")
    return Done("a", key, ClientUpdate("b", ref, 3, {"loss": 0.5}), seconds=1.0)


def test_the_memo_gives_back_what_was_kept(tmp_path):
    store = Store(tmp_path)
    kept = done(store)
    memo.remember(store, kept)
    assert memo.recall(store, kept.key) == replace(kept, reused=True)
    assert memo.recall(store, "x" * 64) is None


def test_the_memo_forgets_what_it_cannot_prove(tmp_path):
    store = Store(tmp_path)
    kept = done(store)
    memo.remember(store, kept)
    name = f"memo/kk/{kept.key}.json"
    text = store.read(name)
    for wrong in (b"", b"{", b"null", text.replace(b'"num_examples":3', b'"num_examples":4')):
        store.write(name, wrong)
        assert memo.recall(store, kept.key) is None
    store.write(name, text)
    store.write(f"blobs/{kept.result.delta.digest[:2]}/{kept.result.delta.digest}", b"altered")
    assert memo.recall(store, kept.key) is None
    store.put(b"delta", "delta")
    assert memo.recall(store, kept.key) is not None


def test_outcomes_survive_json():
    outcome = Done("a", "k", Evaluation(3, {"auc": 0.5}, MODEL))
    assert outcome_from_json(json.loads(json.dumps(outcome_to_json(outcome)))) == outcome
    with pytest.raises(ValueError):
        outcome_from_json({"status": "done", "client": "a"})
