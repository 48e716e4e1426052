"""Tokens of sites: 32 random bytes each, of which the gateway keeps the SHA-256 alone."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deployments.stack.credentials import refuse_readable, write_secret
from deployments.stack.stack import StackError
from fedcore.data.owners import CLIENT_ID

TOKEN_BYTES = 32
_HASH = re.compile(r"[0-9a-f]{64}")


def tokens_file(home: Path) -> Path:
    """Site -> SHA-256 of its token, in the stack's folder of secrets."""
    return home / "secrets" / "gateway.json"


@dataclass(frozen=True)
class Tokens:
    """The tokens of one gateway.

    Attributes:
      file: looked at whenever somebody calls and read when it has changed, so that a revoked token
        ends at once.
    """

    file: Path
    _read: dict[tuple[int, ...], Mapping[str, str]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def issue(self, name: str) -> str:
        """A new token for a site, in place of the one that it had; it is kept nowhere.

        Raises:
          StackError: no name of a site, or the file is damaged or can be read by others.
        """
        if not CLIENT_ID.fullmatch(name):
            raise StackError(
                f"{name!r} is no name of a site: 1 to 64 letters, digits, '.', '_' or '-', the "
                "first a letter or digit."
            )
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._write({**self.hashes(), name: _hash(token)})
        return token

    def revoke(self, name: str) -> None:
        """Nobody is let in by this site's token any more.

        Raises:
          StackError: it has none; the message lists those that have.
        """
        hashes = dict(self.hashes())
        if hashes.pop(name, None) is None:
            raise StackError(
                f"The site {name!r} has no token; these have: {', '.join(hashes) or 'none'}."
            )
        self._write(hashes)

    def owner(self, token: str) -> str | None:
        """Whose token it is; None when it is nobody's.

        Raises:
          StackError: the file is damaged or can be read by others.
        """
        found, given = None, _hash(token)
        for name, known in self.hashes().items():  # all of them: the time tells nothing
            if hmac.compare_digest(given, known):
                found = name
        return found

    def hashes(self) -> Mapping[str, str]:
        """Site -> hash, sorted; empty when there is no file.

        Raises:
          StackError: the file is damaged or can be read by others.
        """
        try:
            now = self.file.stat()
        except FileNotFoundError:
            return {}
        version = (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        if version not in self._read:
            hashes = self._hashes()
            self._read.clear()
            self._read[version] = hashes
        return self._read[version]

    def _hashes(self) -> Mapping[str, str]:
        refuse_readable(self.file)
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(
            CLIENT_ID.fullmatch(name) and isinstance(known, str) and _HASH.fullmatch(known)
            for name, known in found.items()
        ):
            raise StackError(
                f"{self.file} is damaged. Remove it and give each site a new token: "
                "fedloom gateway token NAME"
            )
        return dict(sorted(found.items()))

    def _write(self, hashes: Mapping[str, str]) -> None:
        write_secret(self.file, json.dumps(hashes, indent=2, sort_keys=True) + "\n")


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
