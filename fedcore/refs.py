"""A reference to content: what crosses task boundaries in place of tensors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ref:
    """Names one blob of a content-addressed store.

    Attributes:
      digest: SHA-256 of the blob's bytes, 64 hex digits.
      size: bytes.
      kind: what it holds, e.g. ``model``, ``delta``, ``shard``.
    """

    digest: str
    size: int
    kind: str
