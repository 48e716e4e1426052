"""What the policy makes of an outgoing value: a value in bounds, or the reason why it stays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedcore.digests import canonical_json, digest_arrays
from fedcore.privacy.clip_and_noise import clipped, noised
from fedcore.privacy.secret_stream import SecretStream, derived_key, hashed
from fedcore.sites.codes import Code
from fedcore.sites.description import Description, read_description
from fedcore.sites.outgoing import (
    DIGEST,
    WORD,
    Asked,
    Counts,
    Delta,
    Excuse,
    Facts,
    Hashes,
    Identifiers,
    Measured,
    Numbers,
    Outgoing,
    Released,
    Withheld,
    Words,
)
from fedcore.sites.permission import matches_any
from fedcore.sites.policy import Policy, Rounded, Withhold
from fedcore.sites.refusal import Refusal
from fedcore.tensors import InvalidUpdate, check_delta, encode

MOST_FIELDS = 128  # of one answer, so that its names fit into a line of the log
TYPES: Mapping[str, tuple[type, ...]] = {
    "train": (Delta,),
    "evaluate": (Measured,),
    "audit": (Description, Facts),
    "statistics": (Facts,),
    "prepare": (Description, Facts),
}


@dataclass(frozen=True)
class Shaped:
    """What would leave.

    Attributes:
      released: all but the blob.
      blob: the delta's safetensors bytes.
      fields: (name, bytes, what it is).
      changes: the rules that were applied, whether or not they changed anything.
    """

    released: Released
    blob: bytes | None
    fields: tuple[tuple[str, int, str], ...]
    changes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Of everything: the JSON and the blob."""
        return len(canonical_json(self.released.to_json()).encode()) + len(self.blob or b"")


class _Stays(Exception):
    """Ends the shaping of a value that stays."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(code)
        self.withheld = Withheld(code, reason)


def shape(policy: Policy, secret: bytes, asked: Asked, value: Outgoing) -> Shaped | Withheld:
    """What the policy makes of a value, whoever asks; pure.

    Args:
      secret: of the site.
    """
    try:
        if isinstance(value, Excuse):
            _require(isinstance(value.code, Code), Code.WRONG_KIND, "An excuse is a code.")
            shaped = _shaped(Released(code=value.code.value), None, ())
        else:
            _require(
                isinstance(value, TYPES[asked.kind]),
                Code.WRONG_KIND,
                "What would leave is not what this kind of work gives.",
            )
            shaped = _SHAPES[type(value)](policy, secret, asked, value)
        _require_small(shaped.bytes, policy)
    except _Stays as stays:
        return stays.withheld
    return shaped


def _delta(policy: Policy, secret: bytes, asked: Asked, value: Delta) -> Shaped:
    try:
        check_delta(value.arrays, value.template)
    except InvalidUpdate:  # its text names tensors: it stays
        raise _Stays(
            Code.NOT_DELTA_SHAPED, "The change is not exactly of the model's tensors, or not finite"
        ) from None
    _require(
        all(array.dtype.kind == "f" for array in value.arrays.values()),
        Code.NOT_DELTA_SHAPED,
        "Only floating-point tensors leave.",
    )
    _require_small(sum(array.nbytes for array in value.arrays.values()), policy)
    _require_examples(value.num_examples, policy)
    metrics, changes = _metrics(policy, value.metrics)
    arrays: Mapping[str, np.ndarray] = value.arrays
    if policy.clip_norm is not None:
        arrays = _clipped(arrays, policy.clip_norm)
        changes = (f"clip_norm {policy.clip_norm:g}", *changes)
    if policy.noise_stddev > 0:
        # Not by the job alone: two different deltas under one noise would show their difference,
        # one delta under one noise at two scales would show itself.
        terms = (policy.clip_norm, policy.noise_stddev, digest_arrays(arrays))
        stream = SecretStream(derived_key(secret, "delta noise", asked.key, *terms))
        arrays = noised(arrays, policy.noise_stddev, stream)
        _require_finite(all(np.isfinite(array).all() for array in arrays.values()))
        changes = (*changes, f"noise_stddev {policy.noise_stddev:g}")
    fields = tuple(
        (f"delta.{name}", array.nbytes, f"{array.dtype}{list(array.shape)}")
        for name, array in sorted(arrays.items())
    )
    return _shaped(Released(value.num_examples, metrics), encode(arrays), changes, fields)


def _measured(policy: Policy, secret: bytes, asked: Asked, value: Measured) -> Shaped:
    _require(
        not isinstance(policy.metrics, Withhold),
        Code.METRICS_WITHHELD,
        "Quality figures are withheld, and an evaluation has nothing else.",
    )
    _require_examples(value.num_examples, policy)
    metrics, changes = _metrics(policy, value.metrics)
    return _shaped(Released(value.num_examples, metrics), None, changes)


def _metrics(
    policy: Policy, metrics: Mapping[str, float]
) -> tuple[dict[str, float], tuple[str, ...]]:
    if isinstance(policy.metrics, Withhold):
        return {}, ("metrics withheld",)
    _require(
        set(metrics) <= set(policy.metric_names),
        Code.METRIC_NOT_ALLOWED,
        "A quality figure is not among the policy's metric_names.",
    )
    _require_finite(all(_is_number(one) for one in metrics.values()))
    found = {name: float(one) for name, one in metrics.items()}
    if isinstance(policy.metrics, Rounded):
        decimals = policy.metrics.decimals
        rounded = {name: round(one, decimals) for name, one in found.items()}
        return rounded, (f"metrics to {decimals} decimals",)
    return found, ()


def _description(policy: Policy, secret: bytes, asked: Asked, value: Description) -> Shaped:
    try:
        text = value.to_json()
        read_description(text, value.client)
    except (Refusal, TypeError, ValueError):
        raise _Stays(Code.NOT_A_DESCRIPTION, "The description is not of its schema.") from None
    groups = [*value.sizes.values(), *value.train_labels]
    groups += [count for counts in value.labels.values() for count in counts]
    _require_groups(groups, policy)
    return _shaped(Released(facts=text), None, ())


def _facts(policy: Policy, secret: bytes, asked: Asked, value: Facts) -> Shaped:
    _require(
        len(value.fields) <= MOST_FIELDS, Code.TOO_LARGE, f"More than {MOST_FIELDS} statistics."
    )
    for name in value.fields:
        _require_statistic(
            WORD.fullmatch(name) is not None and matches_any(name, policy.statistics)
        )
    key = derived_key(secret, "identifiers", asked.run)
    facts = {name: _leaf(one, policy, key) for name, one in value.fields.items()}
    has_names = any(isinstance(one, Identifiers) for one in value.fields.values())
    is_hashed = has_names and policy.identifiers == "hashed"
    return _shaped(Released(facts=facts), None, ("identifiers hashed",) if is_hashed else ())


def _leaf(
    leaf: Counts | Numbers | Hashes | Words | Identifiers, policy: Policy, key: bytes
) -> list[Any]:
    match leaf:
        case Counts(values):
            _require_groups(values, policy)
        case Numbers(values, group):
            _require_groups([group], policy, may_be_empty=False)
            _require_finite(all(_is_number(one) for one in values))
        case Hashes(values):
            _require_statistic(all(DIGEST.fullmatch(one) for one in values))
        case Words(values, vocabulary):
            _require_statistic(set(values) <= vocabulary)
        case Identifiers(values):
            _require_statistic(all(isinstance(one, str) for one in values))
            if policy.identifiers == "hashed":
                return [hashed(key, one) for one in values]
        case _:
            raise _Stays(Code.STATISTIC_NOT_ALLOWED, "A statistic is of no type that may leave.")
    return list(leaf.values)


_SHAPES: Mapping[type, Callable[..., Shaped]] = {
    Delta: _delta,
    Measured: _measured,
    Description: _description,
    Facts: _facts,
}


def _shaped(
    released: Released,
    blob: bytes | None,
    changes: tuple[str, ...],
    tensors: tuple[tuple[str, int, str], ...] = (),
) -> Shaped:
    return Shaped(released, blob, (*_json_fields(released), *tensors), changes)


def _json_fields(released: Released) -> Iterator[tuple[str, int, str]]:
    if released.code:
        yield "code", len(canonical_json(released.code)), "one of a fixed list"
    if released.num_examples:
        yield "num_examples", len(str(released.num_examples)), "whole number"
    for part, values in (("metrics", released.metrics), ("facts", released.facts)):
        for name, one in sorted(values.items()):
            yield f"{part}.{name}", len(canonical_json(one).encode()), type(one).__name__


def _require(holds: bool, code: Code, reason: str) -> None:
    if not holds:
        raise _Stays(code, reason)


def _require_examples(count: int, policy: Policy) -> None:
    least = policy.minimum_examples
    _require(
        type(count) is int and count >= least,
        Code.TOO_FEW_EXAMPLES,
        f"Fewer examples than minimum_examples={least}.",
    )


def _require_groups(
    counts: list[int] | tuple[int, ...], policy: Policy, *, may_be_empty: bool = True
) -> None:
    least = policy.minimum_group
    _require(
        all(type(one) is int and (one >= least or (may_be_empty and one == 0)) for one in counts),
        Code.GROUP_TOO_SMALL,
        f"A group has fewer records than minimum_group={least}.",
    )


def _require_statistic(holds: bool) -> None:
    _require(
        holds, Code.STATISTIC_NOT_ALLOWED, "A statistic's name or content is not allowed by policy."
    )


def _require_finite(holds: bool) -> None:
    _require(holds, Code.NOT_FINITE, "A number is not finite.")


def _require_small(size: int, policy: Policy) -> None:
    _require(
        size <= policy.max_bytes, Code.TOO_LARGE, f"More bytes than max_bytes={policy.max_bytes}."
    )


def _clipped(arrays: Mapping[str, np.ndarray], clip_norm: float) -> dict[str, np.ndarray]:
    try:
        return clipped(arrays, clip_norm)
    except ValueError:
        raise _Stays(Code.NOT_FINITE, "The change's norm is too large.") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
