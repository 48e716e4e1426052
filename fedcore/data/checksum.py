"""Checksums as data sets publish them, MD5 or SHA-256: they find damage and mix-ups."""

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


def kind_of(checksum: str) -> str:
    """``md5`` or ``sha256``, by the length of its hex digits.

    Raises:
      ValueError: neither 32 nor 64 of them.
    """
    kinds = {32: "md5", 64: "sha256"}
    if len(checksum) not in kinds:
        raise ValueError(f"checksum={checksum!r}: 32 hex digits are an MD5, 64 a SHA-256.")
    return kinds[len(checksum)]


def checksum_of(path: Path, kind: str) -> str:
    """Checksum of the file's content, of a kind that :func:`kind_of` gives, hex digits."""
    if kind == "md5":
        return md5_of(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def verify_checksum(path: Path, expected: str, *, actual: str | None = None) -> dict[str, Any]:
    """The file's entry for a data set's provenance, once its checksum is right.

    Args:
      path: the file.
      expected: the published MD5 or SHA-256, hex digits of either case.
      actual: its checksum where it is already known, or that of the content inside the file.

    Returns:
      ``{"name": file name without folders, "md5" or "sha256": ...}``.

    Raises:
      ChecksumMismatch: the sums differ; names the file, both sums and the way out.
    """
    kind = kind_of(expected)
    actual = checksum_of(path, kind) if actual is None else actual
    if actual != expected.lower():
        raise ChecksumMismatch(
            f"{path} has {kind} {actual}, but its source publishes {expected.lower()}: the file is "
            "damaged or another release. Delete it and run again to fetch it, or put the official "
            "file there."
        )
    return {"name": path.name, kind: actual}
