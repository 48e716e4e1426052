"""What a store keeps: everything a chain needs, nothing else, and never too early."""

from pathlib import Path

import pytest

from fedcore.chain import Chain, ChainBroken
from fedcore.config import make_config
from fedcore.engines.in_process import InProcessEngine
from fedcore.retention import collect, measure, needed
from fedcore.run import run_federated
from fedcore.store import Store

SECTIONS = {
    "data": {"kind": "digits", "limit": 200},
    "partition": {"kind": "iid", "clients": 2},
    "audit": {"remedy": "accept"},
    "model": {"kind": "logistic"},
    "rounds": {"count": 2},
    "strategy": {"kind": "fedadam"},
}


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    run(store, "first")
    return store


def run(store, run_id):
    engine = InProcessEngine(store, Path(store.root + "-cache"))
    return run_federated(make_config(SECTIONS), store=store, engine=engine, run_id=run_id)[1]


def test_young_blobs_stay(store):
    assert collect(store, older_than_seconds=3600) == (0, 0)


def test_a_rehearsal_removes_nothing_and_counts_what_would_go(store):
    before = measure(store)
    count, size = collect(store, older_than_seconds=0, is_rehearsal=True)
    assert measure(store) == before and count == before.blobs - before.needed_blobs
    assert size == before.bytes - before.needed_bytes > 0
    assert collect(store, older_than_seconds=0) == (count, size)


def test_what_is_left_is_needed_and_the_run_can_be_read_and_repeated(store):
    orphan = store.put(b"nobody names me", "model")
    collect(store, older_than_seconds=0)
    usage = measure(store)
    assert not store.holds(orphan)
    assert usage.blobs == usage.needed_blobs == len(needed(store)) and usage.runs == 1
    records = list(Chain(store, "first").records())
    assert all(store.holds(ref) for r in records for ref in (r.model, r.parent, r.state))
    again = run(store, "second")
    assert [r.digest for r in again.records] == [r.digest for r in records]


def test_an_altered_chain_stops_the_collection(store):
    name = "runs/first/rounds/000001.json"
    store.write(name, store.read(name).replace(b'"round":1', b'"round":7'))
    with pytest.raises(ChainBroken):
        collect(store, older_than_seconds=0)


def test_a_run_that_is_about_to_begin_keeps_what_its_notes_name(store):
    picture = store.put(b"picture", "picture")
    Chain(store, "begins").annotate("partition", {"picture": vars(picture)})
    collect(store, older_than_seconds=0)
    assert store.holds(picture)
