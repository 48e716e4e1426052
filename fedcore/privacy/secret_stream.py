"""Random numbers that only a site can compute: ChaCha20 keyed by HKDF of the site's secret.

HKDF: RFC 5869 with SHA-256; ChaCha20: RFC 8439. The same names give the same bytes. Normal numbers
are by Box and Muller (1958) in float64 and rounded with the result, which does not resist an
attacker who knows every bit of the exact result (Mironov, On Significance of the Least Significant
Bits, CCS 2012): a privacy guarantee against that needs a discrete Gaussian.
"""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedcore.digests import canonical_json

SECRET_BYTES = 32
_PAIRS = 1 << 12  # at once: stays in the processor's cache


def derived_key(secret: bytes, *names: str | float | None) -> bytes:
    """32 bytes for one purpose; other names give unrelated ones.

    Raises:
      ValueError: the secret does not have 32 bytes.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"secret has {len(secret)} bytes; a site's secret has {SECRET_BYTES}.")
    info = canonical_json(["fedloom site", *names]).encode()
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)


def hashed(key: bytes, value: str) -> str:
    """HMAC-SHA256 of a name, cut to 32 hex digits: the same name, the same fingerprint."""
    return hmac.new(key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


class SecretStream:
    """The key stream of one key, read from its beginning; a key is used for one stream only."""

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()

    def bytes(self, count: int) -> bytes:
        """The next bytes."""
        return self._cipher.update(bytes(count))

    def uniform(self, count: int) -> np.ndarray:
        """(count,) float64, independent, uniform on the multiples of 2^-53 in [0, 1)."""
        bits = np.frombuffer(self.bytes(8 * count), "<u8") >> np.uint64(11)
        return bits * 2.0**-53

    def normal(self, count: int) -> np.ndarray:
        """(count,) float64, independent, mean 0 and standard deviation 1."""
        import torch  # whose sine and cosine take a fifth of numpy's time

        out = np.empty(count + count % 2, np.float64)
        for start in range(0, len(out), 2 * _PAIRS):
            part = out[start : start + 2 * _PAIRS]
            pairs = self.uniform(len(part)).reshape(-1, 2)
            radius = np.sqrt(-2 * np.log(pairs[:, 0] + 2.0**-53))
            angle = torch.from_numpy(2 * np.pi * pairs[:, 1])
            part[0::2], part[1::2] = radius * angle.cos().numpy(), radius * angle.sin().numpy()
        return out[:count]
