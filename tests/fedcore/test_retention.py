import time

import pytest

from fedcore.chain import Chain
from fedcore.retention import DAY_SECONDS, collect, measure
from fedcore.store import BlobMissing, Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_what_a_chain_names_stays_and_the_rest_goes(store):
    kept, loose = store.put(b"named in a chain", "model"), store.put(b"of a cut off run", "delta")
    Chain(store, "one").begin({"initial": kept.digest})
    assert collect(store, now=time.time() + 2 * DAY_SECONDS) == (1, loose.size)
    assert store.get(kept) == b"named in a chain"
    with pytest.raises(BlobMissing):
        store.get(loose)


def test_young_blobs_belong_to_runs_under_way(store):
    loose = store.put(b"not committed yet", "delta")
    assert collect(store) == (0, 0)
    assert store.holds(loose)


def test_a_rehearsal_removes_nothing(store):
    loose = store.put(b"loose", "delta")
    assert collect(store, now=time.time() + 2 * DAY_SECONDS, is_rehearsal=True) == (1, 5)
    assert store.holds(loose)


def test_usage_counts_all_and_needed(store):
    kept = store.put(b"1234", "model")
    store.put(b"123456", "delta")
    Chain(store, "one").begin({"initial": kept.digest})
    usage = measure(store)
    assert (usage.blobs, usage.bytes, usage.needed_blobs, usage.needed_bytes) == (2, 10, 1, 4)
    assert usage.runs == 1


def test_an_empty_store_is_measured(store):
    assert measure(store).blobs == 0
