"""The idx and npz readers: round trips, and nothing damaged or pickled gets through."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fedcore.data.idx import idx_bytes, idx_md5, read_idx
from fedcore.data.npz import array_names, read_arrays


@given(npst.arrays(np.uint8, npst.array_shapes(max_dims=4, max_side=5)), st.booleans())
def test_idx_round_trip(tmp_path_factory, array, packed):
    path = tmp_path_factory.mktemp("idx") / "x"
    data = idx_bytes(array)
    path.write_bytes(gzip.compress(data) if packed else data)
    assert np.array_equal(read_idx(path), array)
    assert read_idx(path).shape == array.shape


def test_idx_golden(tmp_path):
    # The format as its authors describe it: magic 0x00000801, size, bytes.
    assert idx_bytes(np.array([7, 255], np.uint8)) == bytes.fromhex("00000801 00000002 07ff")
    assert idx_md5(np.array([7, 255], np.uint8)) == idx_md5(np.array([7, 255], np.uint8)[::1])
    with pytest.raises(ValueError, match="dtype=int64"):
        idx_bytes(np.array([1]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "starts with ''"),
        (bytes.fromhex("00000d01 00000001 00"), "not with an idx header of unsigned bytes"),
        (bytes.fromhex("00000800"), "not with an idx header"),
        (bytes.fromhex("00000803 00000002"), "ends inside its idx header of 3 dimensions"),
        (bytes.fromhex("00000801 00000003 0102"), r"has 10 bytes, .* shape \(3,\) needs 11"),
        (bytes.fromhex("00000801 00000001 0102"), "has 10 bytes.*needs 9"),
        (bytes.fromhex("00000802 ffffffff ffffffff"), "needs 18446744065119617037"),
        (gzip.compress(bytes(100), mtime=0)[:-9], "damaged gzip"),
    ],
)
def test_damaged_idx_is_refused(tmp_path, data, message):
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_idx(path)


def test_npz_reads_what_is_named(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=np.arange(3), b=np.array(["x"]))
    assert array_names(path) == ["a", "b"]
    assert read_arrays(path, ["a"])["a"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"no array 'c'; it has \['a', 'b'\]"):
        read_arrays(path, ["c"])


def test_npz_is_never_unpickled(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(ValueError, match=r"array 'a' cannot be read.*never unpickled"):
        read_arrays(path, ["a"])


def test_other_files_are_no_npz(tmp_path):
    for name, data in (("text", b"hello"), ("pickle", b"\x80\x04."), ("empty", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match="not a readable npz archive"):
            array_names(tmp_path / name)
    np.save(tmp_path / "one.npy", np.arange(3))
    with pytest.raises(ValueError, match="one npy array"):
        array_names(tmp_path / "one.npy")


def test_altered_npz_is_found(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=np.zeros(1000, np.uint8))
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="cannot be read"):
        read_arrays(path, ["a"])
