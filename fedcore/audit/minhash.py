"""Texts that are nearly the same, by MinHash over runs of words.

Broder, On the Resemblance and Containment of Documents, SEQUENCES 1997. The hashing and the index
are those of ``datasketch``, with fixed permutations: the same texts give the same signatures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

PERMUTATIONS, SEED, SCHEME = 128, 1, "affine32"
# Words of a run (shingle): chance runs of five words are rare, and one changed word costs five.
RUN = 5
# The index may miss a pair just as alike as asked once in a thousand times, one more alike less.
RECALL = 0.999


def signatures(texts: Sequence[str]) -> np.ndarray:
    """(n, 128) uint32: equal entries of two rows estimate the Jaccard similarity of their runs.

    Args:
      texts: normalised.
    """
    empty = _minhash()
    rows = np.empty((len(texts), PERMUTATIONS), dtype=np.uint32)
    for row, text in zip(rows, texts, strict=True):
        one = empty.copy()
        if found := runs(text):
            one.update_batch(found)
        row[:] = one.hashvalues
    return rows


def runs(text: str) -> list[bytes]:
    """The text's runs of five words, each once; a shorter text is one run.

    >>> runs("a b c d e f")
    [b'a b c d e', b'b c d e f']
    """
    words = text.split()
    starts = range(max(len(words) - RUN + 1, min(len(words), 1)))
    return list(dict.fromkeys(" ".join(words[at : at + RUN]).encode() for at in starts))


def most_alike(
    haystack: np.ndarray, needles: np.ndarray, similarity: float
) -> tuple[np.ndarray, np.ndarray]:
    """For each needle the row of the haystack that is most alike, if it is alike enough.

    Args:
      haystack: (n, 128) signatures.
      needles: (m, 128) signatures.
      similarity: estimated Jaccard similarity from which texts are alike.

    Returns:
      (m,) int64 index into the haystack (the first of the most alike), -1 where none is, and (m,)
      float64 similarity (0 where none).
    """
    at, best = np.full(len(needles), -1, dtype=np.int64), np.zeros(len(needles))
    for pin, rows, shares in alike(haystack, needles, similarity):
        nearest = int(shares.argmax())
        at[pin], best[pin] = rows[nearest], shares[nearest]
    return at, best


def alike(
    haystack: np.ndarray, needles: np.ndarray, similarity: float
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each needle that has any, with the rows (k,) int64 of the haystack that are alike enough, in
    their order, and how alike (k,) float64; arguments as of :func:`most_alike`."""
    from datasketch import MinHashLSH  # type: ignore[import-untyped]

    # A text without a word has no runs: it is like nothing.
    blank = _minhash().hashvalues
    index = MinHashLSH(num_perm=PERMUTATIONS, params=bands(similarity))
    for key in np.flatnonzero((haystack != blank).any(axis=1)).tolist():
        index.insert(key, _minhash(haystack[key]), check_duplication=False)
    for pin in np.flatnonzero((needles != blank).any(axis=1)).tolist():
        candidates = np.array(sorted(index.query(_minhash(needles[pin]))), dtype=np.int64)
        shares = (haystack[candidates] == needles[pin]).mean(axis=1)
        enough = shares >= similarity
        if enough.any():
            yield pin, candidates[enough], shares[enough]


def bands(similarity: float) -> tuple[int, int]:
    """How many bands of how many permutations find pairs of that similarity (Jaccard) surely.

    Pairs that agree in a whole band are compared, which has the probability 1 - (1 - s^r)^b:
    Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.2. The widest bands that
    reach the recall compare the fewest.

    >>> bands(0.8), bands(1.0)
    ((25, 5), (2, 64))
    """
    widths = range(1, PERMUTATIONS // 2 + 1)
    shapes = [(PERMUTATIONS // width, width) for width in widths]
    return max(
        (shape for shape in shapes if 1 - (1 - similarity ** shape[1]) ** shape[0] >= RECALL),
        key=lambda shape: shape[1],
    )


def _minhash(hashvalues: np.ndarray | None = None) -> Any:
    from datasketch import MinHash

    return MinHash(PERMUTATIONS, seed=SEED, scheme=SCHEME, hashvalues=hashvalues)
