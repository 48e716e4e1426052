"""What the coordinator wants to know of a site's data, and its answer: how to prepare them.

Salted hashes find samples that two sites share and nothing else: whoever does not know the run's
salt learns nothing from them. The coordinator does know it, and could test whether a site holds a
row that it has itself; they are no private set intersection.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pydantic import ValidationError

from fedcore.audit.settings import AuditSettings
from fedcore.data.dataset import SPLITS
from fedcore.models.preprocess import TablePreprocess, preprocess_from_json
from fedcore.sites.refusal import Reason, Refusal

Scope = Literal["client", "federation", "none"]
Scaling = TablePreprocess | Literal["own"] | None
"""By this; by the site's own training rows; not at all (images, texts)."""

SALT = re.compile(r"[0-9a-f]{64}")
SAMPLE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Inquiry:
    """What a site is asked to say of its data.

    Attributes:
      audit: the run's audit, which the site does on its own rows.
      standardise: as ``preprocessing.standardise``.
      salt: 64 hex digits, of this run, of the sample hashes.
      drop: split (never test) -> hashes of samples that another site holds too and this one is
        to leave out.
    """

    audit: AuditSettings
    standardise: Scope
    salt: str
    drop: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON value that :func:`read_inquiry` takes back."""
        return {
            "audit": self.audit.model_dump(mode="json"),
            "standardise": self.standardise,
            "salt": self.salt,
            "drop": {split: list(hashes) for split, hashes in self.drop.items()},
        }


@dataclass(frozen=True)
class Preparation:
    """How a site is to prepare its data for the rounds.

    Attributes:
      inquiry: which rows take part, as the site described them.
      scaling: of a table's rows.
    """

    inquiry: Inquiry
    scaling: Scaling

    def to_json(self) -> dict[str, Any]:
        """A JSON value that :func:`read_preparation` takes back."""
        return {"inquiry": self.inquiry.to_json(), "scaling": scaling_json(self.scaling)}


def sample_hash(salt: str, digest: str) -> str:
    """What a sample is called in a run: 32 hex digits of HMAC-SHA256 over its input's digest.

    Args:
      salt: of the run.
      digest: SHA-256 of the input's bytes, as in the sample table.
    """
    key = bytes.fromhex(salt)
    return hmac.new(key, b"sample" + bytes.fromhex(digest), hashlib.sha256).hexdigest()[:32]


def scaling_json(scaling: Scaling) -> Any:
    """A JSON value for a scaling."""
    return scaling.to_json() if isinstance(scaling, TablePreprocess) else scaling


def read_inquiry(value: Any) -> Inquiry:
    """The inquiry in what the coordinator sent, every field of its type and within its bounds.

    Raises:
      Refusal: ``schema``, with the field.
    """
    _require_fields(value, ("audit", "standardise", "salt", "drop"), "inquiry")
    try:
        audit = AuditSettings.model_validate(value["audit"])
    except ValidationError as error:
        raise Refusal(Reason.SCHEMA, "audit") from error
    scope, salt, drop = value["standardise"], value["salt"], value["drop"]
    if scope not in get_args(Scope):
        raise Refusal(Reason.SCHEMA, "standardise")
    if not isinstance(salt, str) or not SALT.fullmatch(salt):
        raise Refusal(Reason.SCHEMA, "salt")
    if not isinstance(drop, dict) or not set(drop) <= {*SPLITS} - {"test"}:
        raise Refusal(Reason.SCHEMA, "drop")
    for hashes in drop.values():
        is_list = isinstance(hashes, list)
        if not is_list or not all(isinstance(h, str) and SAMPLE.fullmatch(h) for h in hashes):
            raise Refusal(Reason.SCHEMA, "drop")
    return Inquiry(audit, scope, salt, {split: tuple(hashes) for split, hashes in drop.items()})


def read_preparation(value: Any) -> Preparation:
    """The preparation in what the coordinator sent; raises as :func:`read_inquiry`."""
    _require_fields(value, ("inquiry", "scaling"), "preparation")
    scaling = value["scaling"]
    if isinstance(scaling, dict):
        _require_fields(scaling, ("kind", "mean", "std"), "scaling")
        numbers = [scaling["mean"], scaling["std"]]
        if scaling["kind"] != "table" or not all(map(_are_numbers, numbers)):
            raise Refusal(Reason.SCHEMA, "scaling")
        try:
            scaling = preprocess_from_json(scaling)
        except ValueError as error:
            raise Refusal(Reason.SCHEMA, "scaling") from error
    elif scaling not in (None, "own"):
        raise Refusal(Reason.SCHEMA, "scaling")
    return Preparation(read_inquiry(value["inquiry"]), scaling)


def _require_fields(value: Any, names: tuple[str, ...], what: str) -> None:
    if not isinstance(value, dict) or set(value) != {*names}:
        raise Refusal(Reason.SCHEMA, what)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(number, float) for number in value)
