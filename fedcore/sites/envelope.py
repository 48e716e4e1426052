"""A small signed message between the coordinator and a site."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedcore.chain import RUN_ID
from fedcore.data.owners import CLIENT_ID
from fedcore.digests import canonical_json
from fedcore.sites.identity import Identity, PublicIdentity
from fedcore.sites.refusal import Reason, Refusal
from fedcore.sites.strict_json import parse

MOST_BYTES = 256 * 2**10
_PREFIX = b"fedloom envelope 1\n"
_FIELDS = {"kind", "sender", "recipient", "run", "content"}


@dataclass(frozen=True)
class Envelope:
    """What one party tells another.

    Attributes:
      kind: what ``content`` is, e.g. ``announcement`` or ``reply``.
      sender, recipient: names of the parties.
      run: id of the run it belongs to.
      content: a JSON object; its schema is the receiver's to check.
    """

    kind: str
    sender: str
    recipient: str
    run: str
    content: Mapping[str, Any] = field(default_factory=dict)

    def signed_by(self, identity: Identity) -> bytes:
        """The one encoding of the envelope with the sender's signature."""
        body = self._body()
        signature = identity.sign(_PREFIX + canonical_json(body).encode()).hex()
        return canonical_json({"envelope": body, "signature": signature}).encode()

    def _body(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "sender": self.sender,
            "recipient": self.recipient,
            "run": self.run,
            "content": dict(self.content),
        }


def open_envelope(data: bytes, *, sender: PublicIdentity, recipient: str, run: str) -> Envelope:
    """The envelope in bytes from outside, from one known sender.

    The identity is the key's: a body that names another sender is refused.

    Raises:
      Refusal: ``too_large``, ``not_json``, ``schema``, ``signature``, ``unknown_sender``,
        ``wrong_recipient`` or ``other_run``, in this order.
    """
    value = parse(data, most_bytes=MOST_BYTES)
    if not isinstance(value, dict) or set(value) != {"envelope", "signature"}:
        raise Refusal(Reason.SCHEMA, "envelope")
    body, signature = value["envelope"], value["signature"]
    if not _is_body(body) or not _is_hex(signature, 128) or canonical_json(value).encode() != data:
        raise Refusal(Reason.SCHEMA, "envelope")
    if not sender.verifies(bytes.fromhex(signature), _PREFIX + canonical_json(body).encode()):
        raise Refusal(Reason.SIGNATURE, "envelope")
    for name, expected, reason in (
        ("sender", sender.name, Reason.UNKNOWN_SENDER),
        ("recipient", recipient, Reason.WRONG_RECIPIENT),
        ("run", run, Reason.OTHER_RUN),
    ):
        if body[name] != expected:
            raise Refusal(reason, name)
    return Envelope(**body)


def _is_body(body: Any) -> bool:
    return (
        isinstance(body, dict)
        and set(body) == _FIELDS
        and all(isinstance(body[name], str) for name in _FIELDS - {"content"})
        and all(CLIENT_ID.fullmatch(body[name]) for name in ("sender", "recipient"))
        and RUN_ID.fullmatch(body["run"]) is not None
        and re.fullmatch(r"[a-z]{1,32}", body["kind"]) is not None
        and isinstance(body["content"], dict)
    )


def _is_hex(text: Any, digits: int) -> bool:
    return isinstance(text, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", text) is not None
