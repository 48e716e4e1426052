"""MD5 checksums as data sets publish them: they find damage and mix-ups, not attacks."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any


class ChecksumMismatch(ValueError):
    """A file is not the one its source published."""


def md5_of_bytes(data: bytes | memoryview) -> str:
    """MD5 of the bytes, 32 hex digits.

    >>> md5_of_bytes(b"abc")
    '900150983cd24fb0d6963f7d28e17f72'
    """
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def md5_of(path: Path) -> str:
    """MD5 of the file's content, 32 hex digits, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def verify_md5(path: Path, expected: str, *, actual: str | None = None) -> dict[str, Any]:
    """The file's entry for a data set's provenance, once its checksum is right.

    Args:
      path: the file.
      expected: the published MD5, hex digits of either case.
      actual: its MD5 where it is already known, or that of the content inside the file.

    Returns:
      ``{"name": file name without folders, "md5": ...}``.

    Raises:
      ChecksumMismatch: the sums differ; names the file, both sums and the way out.
    """
    actual = md5_of(path) if actual is None else actual
    if actual != expected.lower():
        raise ChecksumMismatch(
            f"{path} has md5 {actual}, but its source publishes {expected.lower()}: the file is "
            "damaged or another release. Delete it and run again to fetch it, or put the official "
            "file there."
        )
    return {"name": path.name, "md5": actual}
