"""safetensors bytes from outside, against a template: checked before anything is allocated.

https://github.com/huggingface/safetensors#format: 8 bytes of header length, a JSON header with
dtype, shape and offsets of each tensor, then the bytes, without holes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedcore.sites.refusal import Reason, Refusal
from fedcore.sites.strict_json import parse

MOST_HEADER = 2**20
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1"}

Template = Mapping[str, tuple[str, tuple[int, ...]]]
"""name -> (numpy dtype, shape) of every tensor that must be there, and no other."""


def template_of(arrays: Mapping[str, np.ndarray]) -> Template:
    """The template of a model's trainable tensors."""
    return {name: (array.dtype.str, array.shape) for name, array in arrays.items()}


def most_bytes(template: Template) -> int:
    """The largest body that can hold the template."""
    return 8 + MOST_HEADER + sum(_bytes(*spec) for spec in template.values())


def decode_exactly(data: bytes, template: Template) -> dict[str, np.ndarray]:
    """The tensors of a body that has exactly those of the template, finite; views of ``data``.

    Raises:
      Refusal: ``too_large``, ``not_json``, ``tensors`` or ``not_finite``.
    """
    header, start = _header(data, template)
    if set(header) != set(template):
        raise Refusal(Reason.TENSORS, "names")
    body, end = memoryview(data)[start:], 0
    placed = sorted(header.items(), key=lambda item: _start(item[1]))
    arrays = {}
    for name, entry in placed:
        dtype, shape = template[name]
        size = _bytes(dtype, shape)
        expected = {"dtype": _name(dtype), "shape": list(shape), "data_offsets": [end, end + size]}
        if entry != expected or any(isinstance(n, bool) for n in _numbers(entry)):
            raise Refusal(Reason.TENSORS, name)
        if end + size > len(body):
            raise Refusal(Reason.TENSORS, name)
        array = np.frombuffer(body[end : end + size], dtype).reshape(shape)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise Refusal(Reason.NOT_FINITE, name)
        arrays[name], end = array, end + size
    if end != len(body):
        raise Refusal(Reason.TENSORS, "length")
    return arrays


def claimed_shapes(data: bytes, largest: Template) -> dict[str, tuple[int, ...]]:
    """What the header of a body says of its tensors' shapes, not checked; empty where it says none.

    Args:
      largest: what a body of any shape has room in.

    Raises:
      Refusal: ``too_large``, ``not_json`` or ``tensors``.
    """
    found = {}
    for name, entry in _header(data, largest)[0].items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        whole = [n for n in shape if type(n) is int] if isinstance(shape, list) else []
        found[name] = tuple(whole)
    return found


def norm(arrays: Mapping[str, np.ndarray]) -> float:
    """Euclidean norm over all tensors, in float64."""
    squares = (float(np.square(array.astype(np.float64)).sum()) for array in arrays.values())
    return math.sqrt(math.fsum(squares))


def _header(data: bytes, template: Template) -> tuple[dict[str, Any], int]:
    """The header of a body that the template has room for, and where the bytes of tensors begin."""
    if len(data) > most_bytes(template):
        raise Refusal(Reason.TOO_LARGE, "update")
    if len(data) < 8:
        raise Refusal(Reason.TENSORS, "header")
    length = int.from_bytes(data[:8], "little")
    if length > MOST_HEADER or length > len(data) - 8:
        raise Refusal(Reason.TENSORS, "header")
    header = parse(data[8 : 8 + length].rstrip(b" "), most_bytes=MOST_HEADER)
    if not isinstance(header, dict):
        raise Refusal(Reason.TENSORS, "names")
    return header, 8 + length


def _start(entry: object) -> int:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not isinstance(offsets[0], int):
        raise Refusal(Reason.TENSORS, "offsets")
    # Tensors without elements share an offset with the next one: by its end, too.
    return offsets[0] * (sys.maxsize + 1) + (offsets[1] if isinstance(offsets[1], int) else 0)


def _numbers(entry: Mapping[str, list[object]]) -> list[object]:
    return [*entry["shape"], *entry["data_offsets"]]


def _name(dtype: str) -> str:
    for name, known in DTYPES.items():
        if np.dtype(known) == np.dtype(dtype):
            return name
    raise ValueError(f"dtype={dtype!r} does not travel; known are {sorted(DTYPES.values())}.")


def _bytes(dtype: str, shape: tuple[int, ...]) -> int:
    return np.dtype(dtype).itemsize * math.prod(shape)
