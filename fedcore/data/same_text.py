"""When two texts count as the same: case, white space and ways to write a character aside."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable

import numpy as np


def normalised(text: str) -> str:
    """The text in NFKC without case, each run of white space one space, none at its ends.

    Unicode Standard, section 3.13, definition D146 (compatibility caseless match).

    >>> normalised("  Naïve\\n ﬁbroma ")
    'naïve fibroma'
    """
    # Once more between the steps: folding case may leave what NFKC would write otherwise.
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", text).split())


def text_digest(text: str) -> str:
    """SHA-256 of the normalised text: equal for texts that count as the same."""
    return hashlib.sha256(normalised(text).encode()).hexdigest()


def same_texts(texts: Iterable[str]) -> np.ndarray:
    """(n,) int64: the same number for texts that count as the same.

    >>> same_texts(["a b", "c", "A  B"]).tolist()
    [0, 1, 0]
    """
    numbers: dict[str, int] = {}
    digests = [text_digest(text) for text in texts]
    return np.array([numbers.setdefault(one, len(numbers)) for one in digests], dtype=np.int64)
