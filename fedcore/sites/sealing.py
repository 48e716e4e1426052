"""Bytes that only one party can read: an ephemeral X25519 key, HKDF-SHA256, ChaCha20-Poly1305.

The construction is that of a sealed box (RFC 9180's base mode in spirit, without its framing): each
message has a key of its own, so that a fixed nonce is safe, and it is bound to a context.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedcore.sites.identity import KEY_BYTES, Identity, PublicIdentity
from fedcore.sites.refusal import Reason, Refusal

OVERHEAD = KEY_BYTES + 16  # the ephemeral public key and the tag
_NONCE = bytes(12)


def seal(data: bytes, recipient: PublicIdentity, context: bytes) -> bytes:
    """``data`` for one reader; 48 bytes longer.

    Args:
      context: what the message belongs to (run, round, client, job); a reader needs the same.
    """
    once = X25519PrivateKey.generate()
    theirs = X25519PublicKey.from_public_bytes(bytes.fromhex(recipient.sealing))
    public = once.public_key().public_bytes_raw()
    key = derive(once.exchange(theirs), b"fedloom seal 1" + public + context)
    return public + ChaCha20Poly1305(key).encrypt(_NONCE, data, context)


def unseal(sealed: bytes, reader: Identity, context: bytes) -> bytes:
    """What was sealed for the reader in this context.

    Raises:
      Refusal: ``seal``: for somebody else, of another context, or altered.
    """
    public, body = sealed[:KEY_BYTES], sealed[KEY_BYTES:]
    try:
        secret = reader.sealing.exchange(X25519PublicKey.from_public_bytes(public))
        key = derive(secret, b"fedloom seal 1" + public + context)
        return ChaCha20Poly1305(key).decrypt(_NONCE, body, context)
    except (InvalidTag, ValueError) as error:
        raise Refusal(Reason.SEAL, "update") from error


def derive(secret: bytes, purpose: bytes) -> bytes:
    """32 bytes by HKDF-SHA256 (RFC 5869), one key per purpose."""
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=purpose).derive(secret)
