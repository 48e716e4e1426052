"""Facts about texts that the audit's checks read in place of the texts."""

from __future__ import annotations

import hashlib

import numpy as np

from fedcore.audit.minhash import signatures
from fedcore.data.prompted import part
from fedcore.data.same_text import normalised, text_digest
from fedcore.data.text_bytes import read_text


def text_facts(inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of (n, most_bytes) packed texts: digest, readable, bytes, words.

    What is no text (not UTF-8 padded with zeros) has the digest of its bytes, and no words; a
    prompt without a response has no words either.
    """
    texts = [read_text(row) for row in inputs]
    digests = [
        hashlib.sha256(row.tobytes()).hexdigest() if text is None else text_digest(text)
        for row, text in zip(inputs, texts, strict=True)
    ]
    sizes = [len(row.tobytes().rstrip(b"\0")) for row in inputs]
    return {
        "digest": np.array(digests, dtype=object),
        "readable": np.array([text is not None for text in texts], dtype=bool),
        "bytes": np.array(sizes, dtype=np.int64),
        "words": np.array([_words(text or "") for text in texts], dtype=np.int64),
    }


def _words(text: str) -> int:
    return len(text.split()) if part(text)[1].split() else 0


def text_signatures(inputs: np.ndarray) -> np.ndarray:
    """(n, permutations) uint32 MinHash of each packed text as it is written normalised."""
    return signatures([normalised(read_text(row) or "") for row in inputs])
