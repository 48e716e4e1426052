"""What a store must keep, and removing the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fedcore.chain import Chain
from fedcore.memo import blobs_of
from fedcore.outcomes import Done, outcome_from_json
from fedcore.store import Store


@dataclass(frozen=True)
class Usage:
    """What a store holds, and how much of it the chains of its runs need.

    Attributes:
      blobs, bytes: of everything.
      needed_blobs, needed_bytes: of what a chain names, client updates aside.
      runs: number of chains.
    """

    blobs: int
    bytes: int
    needed_blobs: int
    needed_bytes: int
    runs: int


def run_ids(store: Store) -> list[str]:
    """Ids of the runs that have begun or are about to, sorted."""
    return sorted({name.split("/")[1] for name in store.names("runs")})


def needed(store: Store) -> set[str]:
    """Digests that some run's chain or notes name: data, models, server states, pictures.

    Client updates are not among them: once a round is committed they only save repeated work.
    A registered model version has its own copies and needs nothing of the store beyond its chain.

    Raises:
      ChainBroken: a chain was altered; nothing should be removed before that is understood.
    """
    digests: set[str] = set()
    for run_id in run_ids(store):
        chain = Chain(store, run_id)
        if store.holds_name(f"runs/{run_id}/header.json"):
            list(chain.records())
        # One that is about to begin, or was killed before it had, has notes and perhaps the records
        # of the run that it is forked from.
        for name in store.names(f"runs/{run_id}"):
            value = json.loads(store.read(name))
            if "/rounds/" in name:
                del value["outcomes"]
            digests.update(_digests(value))
    return digests


def measure(store: Store) -> Usage:
    """How much the store holds and how much of it is needed; raises as ``needed``."""
    held = list(store.blobs())
    keep = needed(store)
    kept = [size for digest, size, _ in held if digest in keep]
    total = sum(size for _, size, _ in held)
    return Usage(len(held), total, len(kept), sum(kept), len(run_ids(store)))


def collect(
    store: Store, *, older_than_seconds: float, is_rehearsal: bool = False
) -> tuple[int, int]:
    """Removes blobs that no chain needs, and memo records that name a removed blob.

    Args:
      older_than_seconds: younger blobs stay: a running round may be about to commit them.
      is_rehearsal: only count.

    Returns:
      (number, bytes) of the blobs removed.

    Raises:
      ChainBroken: as ``needed``; nothing is removed.
    """
    limit = time.time() - older_than_seconds
    old = {digest: size for digest, size, written in store.blobs() if written <= limit}
    keep = needed(store)  # after the listing: what a run has committed meanwhile is kept
    rest = {digest: size for digest, size in old.items() if digest not in keep}
    if not is_rehearsal:
        young = {digest for digest, _, written in store.blobs() if written > limit}
        for digest in sorted(rest.keys() - young):
            store.discard(digest)
        store.sweep(limit)
        for name in store.names("memo"):
            if rest.keys() & set(_memo_digests(store, name)):
                store.remove(name)
    return len(rest), sum(rest.values())


def _memo_digests(store: Store, name: str) -> Iterator[str]:
    try:
        outcome = outcome_from_json(json.loads(store.read(name))["outcome"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return
    if isinstance(outcome, Done):
        yield from (ref.digest for ref in blobs_of(outcome))


def _digests(value: Any) -> Iterator[str]:
    """Digests of all refs in a JSON value."""
    if isinstance(value, dict):
        if {"digest", "size", "kind"} == value.keys():
            yield value["digest"]
        for each in value.values():
            yield from _digests(each)
    elif isinstance(value, list):
        for each in value:
            yield from _digests(each)
