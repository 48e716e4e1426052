"""Texts as rows of bytes, so that shards, digests and the wire carry them as they carry images."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

MostBytes = Annotated[
    int,
    Field(
        ge=16,
        le=1_000_000,
        description="Bytes kept of a text, in UTF-8 (a letter of English is one); each text takes "
        "this much room. Longer ones are cut, which the audit finds.",
    ),
]


def pack(texts: Sequence[str], most_bytes: int | None = None) -> np.ndarray:
    """(n, most_bytes) uint8: each row one text in UTF-8 (NFC), padded on the right with zeros.

    A longer text is cut at the last character that fits.

    Args:
      most_bytes: width of a row; None: that of the longest text, at least 1.

    >>> pack(["ab", "né"], 3).tolist()
    [[97, 98, 0], [110, 195, 169]]

    Raises:
      ValueError: a text holds NUL, which would be taken for padding, or is no valid Unicode; says
        which one, never what it says.
    """
    if most_bytes is not None and most_bytes < 1:
        raise ValueError(f"most_bytes={most_bytes}: a row needs at least 1 byte.")
    contents = [encoded(text, number) for number, text in enumerate(texts)]
    width = most_bytes or max(map(len, contents), default=1) or 1
    packed = np.zeros((len(contents), width), dtype=np.uint8)
    for row, content in zip(packed, contents, strict=True):
        if len(content) > width:
            content = content[:width].decode("utf-8", errors="ignore").encode()
        row[: len(content)] = np.frombuffer(content, dtype=np.uint8)
    return packed


def unpack(inputs: np.ndarray) -> list[str]:
    """The n texts in rows that :func:`pack` made.

    >>> unpack(pack(["ab", "", "né"]))
    ['ab', '', 'né']

    Raises:
      ValueError: rows that ``pack`` cannot have made; names the first.
    """
    if inputs.dtype != np.uint8 or inputs.ndim != 2:
        raise ValueError(
            f"inputs of dtype {inputs.dtype} and shape {inputs.shape} are no texts: expected uint8 "
            "(n, most_bytes)."
        )
    texts = []
    for number, row in enumerate(inputs):
        text = read_text(row)
        if text is None:
            raise ValueError(
                f"row {number} of the inputs is no text: expected UTF-8, then zeros to its end."
            )
        texts.append(text)
    return texts


def read_text(row: np.ndarray) -> str | None:
    """The text of one (most_bytes,) row; None where it is not UTF-8 padded with zeros."""
    content = row.tobytes().rstrip(b"\0")
    try:
        return None if b"\0" in content else content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def encoded(text: str, number: int) -> bytes:
    """The text in UTF-8 (NFC).

    Raises:
      ValueError: as :func:`pack`, about the text of this number.
    """
    if "\0" in text:
        raise ValueError(
            f"text {number} holds a NUL character, which stands for the end of a text here. Remove "
            "it from the data."
        )
    try:
        return unicodedata.normalize("NFC", text).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text {number} is no valid Unicode ({error.reason} at character {error.start}). Save "
            "the data as UTF-8 again."
        ) from None
