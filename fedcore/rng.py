"""Named random streams: every draw is a function of the run seed and the names of its purpose."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from fedcore.digests import canonical_json


def _key(seed: int, names: tuple[str | int, ...]) -> bytes:
    return hashlib.sha256(canonical_json([seed, *names]).encode()).digest()


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """The random stream called ``names`` of the run ``seed``; other names give independent streams.

    Counter-based (Philox; Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011),
    keyed by SHA-256 of the names, so that no draw depends on who drew before.

    >>> int(stream(7, "batches", 3, "cleveland").integers(1000))
    755
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_key(seed, names)[:16], "big")))


def integer(seed: int, *names: str | int) -> int:
    """A 63-bit integer for libraries that want one seed."""
    return int.from_bytes(_key(seed, names)[16:24], "big") >> 1


@contextmanager
def seeded_globals(seed: int, *names: str | int) -> Iterator[None]:
    """Global generators of Python, numpy and torch seeded for the scope, restored after it.

    Only for libraries that draw from global generators (dropout, initialisers, the Trainer).
    """
    import random

    import torch

    value = integer(seed, *names)
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
