"""The store: written once, verified on read, never half a blob."""

import errno
import os

import numpy as np
import pytest

from fedcore.refs import Ref
from fedcore.store import AlreadyExists, BlobAltered, BlobMissing, Store
from fedcore.tensors import InvalidUpdate, check_delta, decode, encode


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    if request.param == "folder":
        return Store(tmp_path / "store")
    return Store(f"memory://{tmp_path.name}/store")


def path_of(store, ref):
    return f"{store.root}/blobs/{ref.digest[:2]}/{ref.digest}"


def test_what_is_put_is_got_under_its_sha256(store):
    ref = store.put(b"hello", "text")
    assert ref == Ref("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", 5, "text")
    assert store.get(ref) == b"hello"
    assert [digest for digest, _, _ in store.blobs()] == [ref.digest]


def test_arrays_round_trip_and_equal_arrays_share_a_blob(store):
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.zeros((), np.float64)}
    ref = store.put_arrays(arrays, "model")
    back = store.get_arrays(ref)
    assert set(back) == {"a", "b"} and (back["b"] == arrays["b"]).all() and back["a"].shape == ()
    assert store.put_arrays(dict(reversed(arrays.items())), "model") == ref


def test_a_missing_blob_is_named(store):
    with pytest.raises(BlobMissing, match=r"delta 00+ is not in the store"):
        store.get(Ref("0" * 64, 1, "delta"))


@pytest.mark.parametrize("damage", [b"", b"hell", b"hellp", b"hello!"])
def test_an_altered_or_truncated_blob_is_refused_and_can_be_put_again(store, damage):
    ref = store.put(b"hello", "text")
    store.fs.pipe_file(path_of(store, ref), damage)
    assert not store.holds(ref)
    with pytest.raises(BlobAltered, match="is not used"):
        store.get(ref)
    store.put(b"hello", "text")
    assert store.get(ref) == b"hello"


def test_an_exclusive_write_happens_once(store):
    store.write("runs/a/header.json", b"1", exclusive=True)
    with pytest.raises(AlreadyExists):
        store.write("runs/a/header.json", b"2", exclusive=True)
    assert store.read("runs/a/header.json") == b"1"


def test_a_full_disk_leaves_nothing_visible(tmp_path, monkeypatch):
    store = Store(tmp_path)

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: 1000 bytes for .* is kept"):
        store.put(b"x" * 1000, "model")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_real_full_disk_leaves_nothing_visible(tmp_path):
    """/dev/full refuses every byte; a file-size limit makes the kernel do the same to a file."""
    import resource
    import signal

    store = Store(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError):
            store.put(b"x" * 5000, "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert store.get(store.put(b"x" * 5000, "model")) == b"x" * 5000


def test_a_backend_without_exclusive_create_is_refused():
    with pytest.raises(ValueError, match="no exclusive create"):
        Store("http://example.invalid/store")


def test_safetensors_bytes_are_a_function_of_the_arrays():
    arrays = {"w": np.array([1.0, 2.0], np.float32)}
    assert encode(arrays) == encode({"w": arrays["w"][::-1][::-1]})
    with pytest.raises(InvalidUpdate, match="not a safetensors blob"):
        decode(b"\x80\x04garbage")


TEMPLATE = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.float32)}


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        ({"w": TEMPLATE["w"]}, r"missing \['b'\]"),
        (TEMPLATE | {"extra": TEMPLATE["b"]}, r"extra \['extra'\]"),
        (TEMPLATE | {"b": np.zeros(3, np.float32)}, r"'b' is float32\[3\]; the model has"),
        (TEMPLATE | {"b": np.zeros((), np.float32)}, r"'b' is float32\[\]"),
        (TEMPLATE | {"b": np.zeros(2, np.float64)}, r"'b' is float64\[2\]"),
        (TEMPLATE | {"b": np.array([0, np.nan], np.float32)}, "NaN or infinity"),
        (TEMPLATE | {"b": np.array([0, -np.inf], np.float32)}, "NaN or infinity"),
    ],
)
def test_a_delta_that_does_not_fit_is_refused(delta, message):
    check_delta(TEMPLATE, TEMPLATE)
    with pytest.raises(InvalidUpdate, match=message):
        check_delta(delta, TEMPLATE)


@pytest.mark.parametrize("url", ["s3://key:s3cret@bucket/fedloom", "memory://u:s3cret@x"])
def test_a_url_with_a_password_is_refused_without_repeating_it(url):
    with pytest.raises(ValueError, match="holds a password, and URLs are shown") as refused:
        Store(url)
    assert "s3cret" not in str(refused.value)
