"""Who a site or the coordinator is: a key that signs and a key that others seal for.

Ed25519 (RFC 8032) and X25519 (RFC 7748) by ``cryptography``. Private keys stay in one file that
only their owner reads; what is registered elsewhere is the public half.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from fedcore.data.owners import CLIENT_ID
from fedcore.digests import canonical_json, digest_json

KEY_BYTES = 32
NAMES = "1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit."


class IdentityError(ValueError):
    """An identity cannot be used; the message names the file or field and the way out."""


@dataclass(frozen=True)
class PublicIdentity:
    """What others know of a party.

    Attributes:
      name: of the site, or ``coordinator``.
      signing: Ed25519 public key, 64 hex digits.
      sealing: X25519 public key, 64 hex digits.
    """

    name: str
    signing: str
    sealing: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not CLIENT_ID.fullmatch(self.name):
            raise IdentityError(f"name: {NAMES}")
        for field in ("signing", "sealing"):
            if not _is_key(getattr(self, field)):
                raise IdentityError(f"{field}: 64 lower-case hex digits, a public key.")

    @property
    def fingerprint(self) -> str:
        """What two people compare by telephone: 32 hex digits in groups of four."""
        digest = digest_json([self.name, self.signing, self.sealing])[:32]
        return " ".join(digest[at : at + 4] for at in range(0, 32, 4))

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether this party signed the message."""
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.signing))
            key.verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def to_json(self) -> dict[str, str]:
        """A JSON value that ``from_json`` takes back."""
        return {"name": self.name, "signing": self.signing, "sealing": self.sealing}

    @staticmethod
    def from_json(value: Any) -> PublicIdentity:
        """The identity that ``to_json`` described.

        Raises:
          IdentityError: it is none.
        """
        if not isinstance(value, dict) or set(value) != {"name", "signing", "sealing"}:
            raise IdentityError("a public identity has name, signing and sealing, nothing else.")
        return PublicIdentity(**value)


@dataclass(frozen=True, repr=False)
class Identity:
    """A party's private keys; never in a log, a parameter or an artifact."""

    name: str
    signing: Ed25519PrivateKey
    sealing: X25519PrivateKey

    def __repr__(self) -> str:
        return f"Identity({self.name!r})"

    @property
    def public(self) -> PublicIdentity:
        """What may be told."""
        return PublicIdentity(
            self.name,
            self.signing.public_key().public_bytes_raw().hex(),
            self.sealing.public_key().public_bytes_raw().hex(),
        )

    def sign(self, message: bytes) -> bytes:
        """An Ed25519 signature of 64 bytes."""
        return self.signing.sign(message)

    def agreed_with(self, other: PublicIdentity) -> bytes:
        """The X25519 secret of both parties, 32 bytes; input of a key derivation, never a key.

        Raises:
          IdentityError: the other's key is of small order.
        """
        try:
            return self.sealing.exchange(
                X25519PublicKey.from_public_bytes(bytes.fromhex(other.sealing))
            )
        except ValueError as error:
            raise IdentityError(f"the sealing key of {other.name} agrees on nothing.") from error


def new_identity(name: str) -> Identity:
    """Fresh keys from the operating system.

    Raises:
      IdentityError: the name cannot name a site.
    """
    if not CLIENT_ID.fullmatch(name):
        raise IdentityError(f"name={name!r}: {NAMES}")
    return Identity(name, Ed25519PrivateKey.generate(), X25519PrivateKey.generate())


def save_identity(identity: Identity, path: Path) -> None:
    """Writes the private keys to a new file that only its owner reads.

    Raises:
      FileExistsError: there is a file; keys are never overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    value = {
        "name": identity.name,
        "signing": identity.signing.private_bytes_raw().hex(),
        "sealing": identity.sealing.private_bytes_raw().hex(),
    }
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(canonical_json(value))
        file.flush()
        os.fsync(file.fileno())


def load_identity(path: Path) -> Identity:
    """The private keys in a file.

    Raises:
      IdentityError: there is none, others can read it, or it is damaged.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise IdentityError(
            f"there is no identity at {path}: `fedloom site init` makes one."
        ) from (error)
    if stat.S_IMODE(mode) & 0o077:
        raise IdentityError(f"others can read {path}: chmod 600 it, and rotate the keys in it.")
    try:
        value = json.loads(path.read_text())
        return Identity(
            value["name"],
            Ed25519PrivateKey.from_private_bytes(bytes.fromhex(value["signing"])),
            X25519PrivateKey.from_private_bytes(bytes.fromhex(value["sealing"])),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise IdentityError(f"{path} is damaged: put back a copy, or make new keys.") from error


def _is_key(text: Any) -> bool:
    return (
        isinstance(text, str)
        and len(text) == 2 * KEY_BYTES
        and set(text) <= set("0123456789abcdef")
    )
