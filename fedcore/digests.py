"""SHA-256 identities of JSON values and of sets of tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np


def canonical_json(value: Any) -> str:
    """One text per JSON value: sorted keys, no spaces, no NaN.

    >>> canonical_json({"b": [1, 2.5], "a": None})
    '{"a":null,"b":[1,2.5]}'
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    )


def digest_bytes(data: bytes | memoryview) -> str:
    """SHA-256 of the bytes, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of the canonical text of a JSON value, 64 hex digits."""
    return digest_bytes(canonical_json(value).encode())


def digest_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of sorted arrays: name, dtype, shape and bytes of each; a model's *final digest*.

    Args:
      arrays: any shapes; byte order is taken as little-endian.
    """
    hasher = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        header = canonical_json([name, little.dtype.name, list(array.shape)])
        hasher.update(len(header).to_bytes(8, "little") + header.encode())
        hasher.update(little.reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()
