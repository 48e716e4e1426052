"""A data owner's private means: the secret that its noise comes from, and what it has spent."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedcore.privacy.budget import Budget
from fedcore.privacy.ledger import Ledger
from fedcore.privacy.secret_stream import SECRET_BYTES, derived_key
from fedcore.store import AlreadyExists, Store


class NoOwner(ValueError):
    """Something private is to be done, and nobody's secret is here."""


@dataclass(frozen=True)
class Owner:
    """Where secret and ledger of an owner of data are.

    Attributes:
      folder: holds both; made when it is missing.
      budget: what the data may tell in all, or None: no bound.
      data: what everything is charged to; empty: each job's own data.
    """

    folder: Path
    budget: Budget | None = None
    data: str = ""

    @property
    def ledger(self) -> Ledger:
        """What was charged; read once in a process, then what was added."""
        return _ledger(self.folder.absolute() / "ledger.jsonl")

    def key(self, *names: str) -> bytes:
        """32 bytes that nobody else can compute.

        Raises:
          ValueError: the secret is damaged.
          OSError: it cannot be read or made.
        """
        return derived_key(self._secret(), *names)

    def _secret(self) -> bytes:
        path = self.folder / "secret"
        with suppress(FileNotFoundError):
            return path.read_bytes()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(AlreadyExists):  # of several processes one is first, and all read the same
            Store(self.folder).write("secret", secrets.token_bytes(SECRET_BYTES), exclusive=True)
        path.chmod(0o600)
        return path.read_bytes()

    def to_json(self) -> dict[str, Any]:
        """A JSON value that ``from_json`` takes back; the secret is not in it."""
        budget = None if self.budget is None else vars(self.budget)
        return {"folder": str(self.folder), "budget": budget, "data": self.data}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Owner:
        """The owner that ``to_json`` described."""
        budget = None if value["budget"] is None else Budget(**value["budget"])
        return Owner(Path(value["folder"]), budget, value["data"])


@lru_cache(maxsize=64)
def _ledger(path: Path) -> Ledger:
    return Ledger(path)


def fixed_key(seed: int, *names: str) -> bytes:
    """The key of a simulation with a fixed secret: anybody who knows the run's seed has it."""
    return derived_key(hashlib.sha256(f"not private {seed}".encode()).digest(), *names)
