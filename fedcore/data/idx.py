"""The idx format of MNIST: a big-endian header, then bytes (http://yann.lecun.com/exdb/mnist/)."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from fedcore.data.checksum import md5_of_bytes

UNSIGNED_BYTE = 0x08


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in the file, plain or gzip (by content, not by name).

    Raises:
      ValueError: no idx header of unsigned bytes, or fewer or more bytes than it announces.
    """
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is a damaged gzip file ({error}). Get it again.") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != UNSIGNED_BYTE or not data[3]:
        raise ValueError(
            f"{path} starts with {data[:4].hex()!r}, not with an idx header of unsigned bytes "
            "(0000 08, number of dimensions)."
        )
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise ValueError(f"{path} ends inside its idx header of {data[3]} dimensions.")
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    expected = start + int(np.prod(shape, dtype=object))
    if len(data) != expected:
        raise ValueError(
            f"{path} has {len(data)} bytes, its idx header of shape {shape} needs {expected}. "
            "Get it again."
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def idx_bytes(array: np.ndarray) -> bytes:
    """The idx file of a uint8 array, not compressed; ``read_idx`` takes it back."""
    if array.dtype != np.uint8:
        raise ValueError(f"dtype={array.dtype}: only uint8 arrays are written as idx.")
    header = struct.pack(f">4B{array.ndim}I", 0, 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    return header + np.ascontiguousarray(array).tobytes()


def idx_md5(array: np.ndarray) -> str:
    """MD5 of the uncompressed idx file of the array: the same in whatever archive it travels."""
    return md5_of_bytes(idx_bytes(array))
