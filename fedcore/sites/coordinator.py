"""The coordinator's own folder: its keys, and the sites that it knows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedcore.sites.audit_log import AuditLog
from fedcore.sites.correspondence import Correspondence
from fedcore.sites.identity import Identity, load_identity, new_identity, save_identity
from fedcore.sites.mailbox import Mailbox
from fedcore.sites.registry import SiteRegistry
from fedcore.sites.sealing import derive

NAME = "coordinator"


@dataclass(frozen=True)
class Coordinator:
    """The parts of the folder.

    identity.json  its private keys, made at the first use
    sites/         one file for each registered site
    log.jsonl      what it refused and whom it registered, each line bound to the one before
    """

    path: Path

    @property
    def identity(self) -> Identity:
        """The private keys; raises IdentityError."""
        path = self.path / "identity.json"
        if not path.exists():
            with suppress(FileExistsError):  # by another process, just now
                save_identity(new_identity(NAME), path)
        return load_identity(path)

    @property
    def registry(self) -> SiteRegistry:
        """The sites that it knows."""
        return SiteRegistry(self.path / "sites")

    @property
    def log(self) -> AuditLog:
        """Its own record, as each site has one."""
        return AuditLog(self.path / "log.jsonl")

    def salt(self, run: str) -> str:
        """64 hex digits that nobody else can tell: of a run's sample hashes."""
        secret = self.identity.sealing.private_bytes_raw()
        return derive(secret, f"fedloom salt 1\n{run}".encode()).hex()

    def lanes(
        self, mailbox: Mailbox, run: str, opening: int, sites: Sequence[str]
    ) -> dict[str, Correspondence]:
        """Site -> its lane in a run.

        Args:
          opening: how often the run was taken up, from 1.
          sites: names; empty: all that are registered and not revoked.

        Raises:
          UnknownSite: one of them is not registered, or nobody is.
        """
        identity, known = self.identity, self.registry.sites()
        names = sites or [name for name, site in known.items() if site.status == "active"]
        if not names:
            self.registry.site("")
        return {
            name: Correspondence(mailbox, identity, self.registry.site(name), run, opening)
            for name in sorted(set(names))
        }
