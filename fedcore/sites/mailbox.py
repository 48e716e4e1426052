"""Where the coordinator and its sites leave each other envelopes and blobs: a folder, or S3.

Nobody has an inbound port: both sides write and look. A name is an HMAC under a key that only the
two parties can derive (X25519), so that a reader asks for exactly what it waits for, nobody lists,
nobody can guess or occupy another's name, and a flood of other names costs nothing. Whatever is
written is written once (an exclusive or conditional create), and read up to a bound.

    to/SITE/RUN/NAME       the coordinator to a site
    from/SITE/RUN/NAME     a site to the coordinator
    all/RUN/DIGEST         models, for every site of the run
"""

from __future__ import annotations

import hmac
import logging
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

from fedcore.digests import digest_bytes
from fedcore.object_store import StoreUnreachable
from fedcore.refs import Ref
from fedcore.sites.identity import Identity, PublicIdentity
from fedcore.sites.refusal import Reason, Refusal
from fedcore.sites.sealing import derive
from fedcore.store import AlreadyExists, Store

PART = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
NAME = re.compile(rf"(to|from|all)(/{PART}){{0,3}}")
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.5, 30.0, 2.0
LOG = logging.getLogger("fedloom.mailbox")
T = TypeVar("T")


@dataclass(frozen=True)
class Mailbox:
    """The mailbox as one party sees it. A lost connection is only a delay.

    Attributes:
      place: the folder or bucket; with a prefix and credentials of one's own where there are any.
      patience: seconds for which a write is tried again while the place does not answer.
    """

    place: Store
    patience: float = 600.0

    def post(self, name: str, data: bytes) -> bool:
        """Writes once; False when the name is taken by other bytes (of ours, before a restart).

        The same bytes are our own: the write was repeated because its reply was lost.

        Raises:
          StoreUnreachable: the place has not answered for so long as ``patience`` says.
        """
        if not self._has(name):
            raise FileNotFoundError(f"{name} leads out of the mailbox; remove the link there.")
        try:
            self._surely(lambda: self.place.write(name, data, exclusive=True))
        except AlreadyExists:
            return self._reads(name, data)
        return True

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """The bytes under a name, or None when there is nothing yet, or the place does not answer.

        On S3 a party that may not list is told that it may not read what is not there.

        Raises:
          Refusal: ``too_large``: no more than one byte over the bound was read.
        """
        try:
            data = self.place.read_start(name, most_bytes + 1) if self._has(name) else None
        except StoreUnreachable as error:
            LOG.warning("%s", error)
            return None
        except (FileNotFoundError, PermissionError):
            return None
        if data is None:
            return None
        if len(data) > most_bytes:
            raise Refusal(Reason.TOO_LARGE, "message")
        return data

    def read_blob(self, folder: str, ref: Ref) -> bytes:
        """The bytes of a blob, no more than its claimed size, which the caller has bounded.

        Raises:
          Refusal: ``missing_blob``, ``too_large`` or ``altered_blob``.
        """
        data = self.read(f"{folder}/{ref.digest}", ref.size)
        if data is None:
            raise Refusal(Reason.MISSING_BLOB, ref.kind)
        if digest_bytes(data) != ref.digest or len(data) != ref.size:
            raise Refusal(Reason.ALTERED_BLOB, ref.kind)
        return data

    def post_blob(self, folder: str, data: bytes, kind: str) -> Ref:
        """Leaves a blob under its digest."""
        ref = Ref(digest_bytes(data), len(data), kind)
        self.post(f"{folder}/{ref.digest}", data)
        return ref

    def clear(self, folder: str) -> int:
        """Removes everything under a folder; returns how much it was."""
        names = self._surely(lambda: self.place.names(folder)) if self._has(folder) else []
        self._surely(lambda: self.place.remove(*names))
        return len(names)

    def expire(self, before: float) -> int:
        """Removes what was left before a time and nobody cleared; returns how much it was.

        Args:
          before: seconds since the epoch; long before any run that may still go on.
        """
        old = [
            name
            for folder in ("to", "from", "all")
            if self._has(folder)
            for name, written in self.place.written(folder)
            if written < before
        ]
        self.place.remove(*old)
        return len(old)

    def holds(self, name: str) -> bool:
        """Whether there is something under a name."""
        return self._has(name) and self._surely(lambda: self.place.holds_name(name))

    def remove(self, *names: str) -> None:
        """Removes what is under the names, where anything is."""
        there = [name for name in names if self._has(name)]
        if there:
            self._surely(lambda: self.place.remove(*there))

    def _reads(self, name: str, data: bytes) -> bool:
        try:
            return self.read(name, len(data)) == data
        except Refusal:  # there is more
            return False

    def _surely(self, does: Callable[[], T]) -> T:
        ends, pause = time.monotonic() + self.patience, FIRST_PAUSE
        while True:
            try:
                return does()
            except StoreUnreachable as error:
                if time.monotonic() + pause > ends:
                    raise
                LOG.warning("%s", error)
            time.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(LONGEST_PAUSE, pause * GROWTH)

    def _has(self, name: str) -> bool:
        """Whether the name is one of ours and stays in the mailbox: the other party may have put a
        link in its way."""
        if not NAME.fullmatch(name):
            raise ValueError(f"name={name!r} is no name of a mailbox: {NAME.pattern}")
        return self.place.is_inside(name)


@dataclass(frozen=True)
class Lane:
    """The names between the coordinator and one site in one run; both sides derive the same.

    Attributes:
      site: name of the site.
      run: id of the run.
      key: 32 bytes that only the two know, of one opening of the run: what was left before a run
        was taken up again is not read as if it were new.
    """

    site: str
    run: str
    key: bytes

    @staticmethod
    def between(us: Identity, other: PublicIdentity, *, site: str, run: str, opening: int) -> Lane:
        """The lane of a run, from either end; ``opening``: how often it was taken up, from 1."""
        context = f"fedloom lane 1\n{site}\n{run}\n{opening}".encode()
        return Lane(site, run, derive(us.agreed_with(other), context))

    @property
    def outbox(self) -> str:
        """Folder of what the site leaves for the coordinator."""
        return f"from/{self.site}/{self.run}"

    def announcement(self, number: int) -> str:
        """Name of the coordinator's announcement ``number``, from 1."""
        return f"to/{self.site}/{self.run}/{self._name(f'announcement {number}')}"

    def reply(self, key: str, attempt: int = 0) -> str:
        """Name of the site's reply to what was asked under a key."""
        return f"{self.outbox}/{self._name(f'reply {key} {attempt}')}"

    def _name(self, what: str) -> str:
        return hmac.new(self.key, what.encode(), sha256).hexdigest()


def models(run: str) -> str:
    """Folder of the blobs that every site of a run may read."""
    return f"all/{run}"
