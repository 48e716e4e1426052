"""What a site has released, so that it is sent again as it was and never computed again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedcore.digests import canonical_json, digest_json
from fedcore.sites.codes import Code
from fedcore.sites.outgoing import Asked, Released, Withheld
from fedcore.sites.policy import Policy
from fedcore.sites.shaping import Shaped
from fedcore.store import Store

_OF_FACTS = frozenset({"minimum_group", "max_bytes", "statistics", "identifiers"})
_OF_RESULTS = frozenset({"minimum_examples", "max_bytes", "metrics", "metric_names"})
# What of the policy a release depends on: where it differs later, the release is not sent again.
_TERMS: Mapping[str, frozenset[str]] = {
    "train": _OF_RESULTS | {"clip_norm", "noise_stddev"},
    "evaluate": _OF_RESULTS,
    "audit": _OF_FACTS,
    "statistics": _OF_FACTS,
    "prepare": _OF_FACTS,
}


def keep(store: Store, policy: Policy, asked: Asked, shaped: Shaped) -> Released:
    """Puts a release and its blob into the site's store, before it leaves."""
    blob = None if shaped.blob is None else store.put(shaped.blob, "delta")
    released = replace(shaped.released, blob=blob)
    record = {"terms": _terms(policy, asked), "released": released.to_json()}
    kept = {"record": record, "digest": digest_json(record)}
    store.write(_name(asked), canonical_json(kept).encode())
    return released


def again(store: Store, policy: Policy, asked: Asked) -> Released | Withheld | None:
    """What was released for this before; withheld when it is damaged or the policy was changed
    since in what it depends on; None when nothing was."""
    try:
        kept = json.loads(store.read(_name(asked)))
        record: dict[str, Any] = kept["record"]
        if digest_json(record) != kept["digest"]:
            return _DAMAGED
        if record["terms"] != _terms(policy, asked):
            return Withheld(
                Code.RELEASED_BEFORE,
                "This was released before the policy was changed, and is not computed twice.",
            )
        released = Released.from_json(record["released"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return _DAMAGED
    return released if released.blob is None or store.holds(released.blob) else _DAMAGED


_DAMAGED = Withheld(
    Code.RELEASED_BEFORE,
    "This was released before, its copy is damaged, and it is not computed twice.",
)


def _terms(policy: Policy, asked: Asked) -> dict[str, Any]:
    value: dict[str, Any] = policy.model_dump(mode="json", include=set(_TERMS[asked.kind]))
    return value


def _name(asked: Asked) -> str:
    """A job's result is the same in every run; what identifiers are called is not."""
    run = "" if asked.kind in ("train", "evaluate") else asked.run
    name = digest_json([asked.kind, asked.key, run])
    return f"released/{name[:2]}/{name}.json"
