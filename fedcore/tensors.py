"""Named arrays as safetensors bytes, and strict checks of what claims to be an update."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

Arrays = Mapping[str, np.ndarray]


class InvalidUpdate(ValueError):
    """An update does not have exactly the tensors of the model it claims to change."""


def encode(arrays: Arrays) -> bytes:
    """The safetensors bytes of ``arrays``; equal arrays give equal bytes."""
    return save({name: np.asarray(arrays[name], order="C") for name in sorted(arrays)})


def decode(data: bytes) -> dict[str, np.ndarray]:
    """The arrays in safetensors bytes.

    Raises:
      InvalidUpdate: the bytes are not safetensors.
    """
    try:
        return load(data)
    except SafetensorError as error:
        raise InvalidUpdate(f"not a safetensors blob of {len(data)} bytes: {error}") from error


def check_delta(delta: Arrays, template: Arrays) -> None:
    """Whether ``delta`` has exactly the names, shapes and dtypes of ``template``, all finite.

    Raises:
      InvalidUpdate: names the first tensor that does not fit, never its content.
    """
    if set(delta) != set(template):
        missing = sorted(set(template) - set(delta))
        extra = sorted(set(delta) - set(template))
        raise InvalidUpdate(f"tensors differ from the model: missing {missing}, extra {extra}.")
    for name in sorted(template):  # safetensors gives them in any order, and records hold reasons
        value, expected = delta[name], template[name]
        if value.shape != expected.shape or value.dtype != expected.dtype:
            raise InvalidUpdate(
                f"tensor {name!r} is {value.dtype}{list(value.shape)}; "
                f"the model has {expected.dtype}{list(expected.shape)}."
            )
        if not np.isfinite(value).all():
            raise InvalidUpdate(f"tensor {name!r} holds NaN or infinity.")
