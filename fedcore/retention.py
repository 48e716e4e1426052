"""What of a store is still needed, and removing the rest."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from fedcore.store import Store

_DIGEST = re.compile(rb"[0-9a-f]{64}")
DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Usage:
    """What a store holds.

    Attributes:
      blobs, bytes: everything.
      needed_blobs, needed_bytes: what the chains of its runs name.
      runs: number of runs.
    """

    blobs: int
    bytes: int
    needed_blobs: int
    needed_bytes: int
    runs: int


def needed(store: Store) -> frozenset[str]:
    """Every digest that a header, a round record or a note of any run names.

    Registered model versions carry their own copy of the tensors and name their run's chain, so
    that what they need is among these.
    """
    found: set[str] = set()
    for name in store.names("runs"):
        found.update(match.decode() for match in _DIGEST.findall(store.read(name)))
    return frozenset(found)


def measure(store: Store) -> Usage:
    """How much the store holds, and how much of it is needed."""
    wanted = needed(store)
    sizes = {digest: size for digest, size, _ in store.blobs()}
    kept = [size for digest, size in sizes.items() if digest in wanted]
    runs = {name.split("/")[1] for name in store.names("runs")}
    return Usage(len(sizes), sum(sizes.values()), len(kept), sum(kept), len(runs))


def collect(
    store: Store,
    *,
    older_than_seconds: float = DAY_SECONDS,
    now: float | None = None,
    is_rehearsal: bool = False,
) -> tuple[int, int]:
    """Removes blobs that no run's chain names: (blobs, bytes) removed.

    What is removed is recomputed when a later run wants it; nothing that is in a chain changes.

    Args:
      store: where.
      older_than_seconds: younger blobs stay: a run that is under way commits them only later.
      now: seconds since the epoch, by default the clock.
      is_rehearsal: only count.
    """
    before = (time.time() if now is None else now) - older_than_seconds
    candidates = [(digest, size) for digest, size, written in store.blobs() if written < before]
    # After the listing: what a run committed meanwhile counts as needed.
    wanted = needed(store)
    unneeded = [(digest, size) for digest, size in candidates if digest not in wanted]
    if not is_rehearsal:
        for digest, _ in unneeded:
            store.discard(digest)
    return len(unneeded), sum(size for _, size in unneeded)
