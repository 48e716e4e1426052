"""The one memory of finished client jobs: job key -> outcome, verified when it is read."""

from __future__ import annotations

import json
from dataclasses import replace

from fedcore.digests import canonical_json, digest_json
from fedcore.outcomes import ClientUpdate, Done, outcome_from_json, outcome_to_json
from fedcore.refs import Ref
from fedcore.store import Store


def _name(key: str) -> str:
    return f"memo/{key[:2]}/{key}.json"


def blobs_of(done: Done) -> list[Ref]:
    """The blobs that an outcome names."""
    if isinstance(done.result, ClientUpdate):
        return [done.result.delta]
    return [done.result.scores] if done.result.scores else []


def recall(store: Store, key: str) -> Done | None:
    """What the job came back with before, if all its blobs are still there unaltered.

    A record that was altered, names another job, or names a missing or altered blob counts as
    absent, so that the work is done again.
    """
    try:
        kept = json.loads(store.read(_name(key)))
        if digest_json(kept["outcome"]) != kept["digest"]:
            return None
        done = outcome_from_json(kept["outcome"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(done, Done) or done.key != key:
        return None
    if not all(store.holds(ref) for ref in blobs_of(done)):
        return None
    return replace(done, reused=True)


def remember(store: Store, done: Done) -> None:
    """Keeps an outcome under its job key, for every engine and every later run."""
    outcome = outcome_to_json(done)
    kept = {"digest": digest_json(outcome), "outcome": outcome}
    store.write(_name(done.key), canonical_json(kept).encode())
