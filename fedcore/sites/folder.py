"""A site's folder: everything that the site is, on its own machine.

site.yaml         name, data, mailbox: what its administrator writes
policy.yaml       what may leave
identity.json     its private keys
coordinator.json  the coordinator's public keys, as compared by a person
token             what the coordinator's gateway knows the site by
secret            32 bytes that name its data and seed its noise
status.json       running or paused; runs withdrawn and approved
log.jsonl         its own record of what it decided
store/ cache/     its shards, models and finished work
runs/RUN/         what it has laid out for a run, and the answers that it has given
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from fedcore.config_errors import explain
from fedcore.data.settings import DataSettings
from fedcore.digests import canonical_json
from fedcore.privacy.budget import Budget
from fedcore.privacy.owner import Owner
from fedcore.settings import Settings
from fedcore.sites.audit_log import AuditLog
from fedcore.sites.identity import (
    Identity,
    IdentityError,
    PublicIdentity,
    load_identity,
    new_identity,
    save_identity,
)
from fedcore.sites.mailbox import Mailbox
from fedcore.sites.policy import Policy, load_policy
from fedcore.store import Store
from fedcore.strict_yaml import StrictLoader

SECRET_BYTES = 32


class SiteError(ValueError):
    """A site's folder cannot be used; the message names the file and the way out."""


class SiteSettings(Settings):
    """What a site's administrator writes in ``site.yaml``."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="The site's name.")
    data: DataSettings = Field(description="This site's own rows, and nobody else's.")
    folder: str = Field("", description="Folder that the paths of data begin in.")
    api: str = Field("", description="URL of the coordinator's API, e.g. https://HOST/api.")
    mailbox: str = Field(min_length=1, description="Folder or URL of the mailbox, e.g. s3://...")


@dataclass(frozen=True)
class SiteFolder:
    """The parts of a site's folder, read when they are asked for."""

    path: Path

    @property
    def settings(self) -> SiteSettings:
        """``site.yaml``.

        Raises:
          SiteError: it is missing or wrong.
        """
        path = self.path / "site.yaml"
        try:
            values = yaml.load(path.read_text(encoding="utf-8"), StrictLoader)
            return SiteSettings.model_validate(values)
        except FileNotFoundError as error:
            raise SiteError(
                f"{self.path} has no site.yaml: it is no site's folder. `fedloom site init` makes "
                "one."
            ) from error
        except yaml.YAMLError as error:
            raise SiteError(f"{path} is not valid YAML: {error}") from error
        except ValidationError as error:
            lines = [f"  {explain(SiteSettings, one)}" for one in error.errors()]
            raise SiteError("\n".join([f"{path} is not valid:", *lines])) from None

    @property
    def identity(self) -> Identity:
        """The site's private keys; raises IdentityError."""
        return load_identity(self.path / "identity.json")

    @property
    def coordinator(self) -> PublicIdentity:
        """Whom the site listens to.

        Raises:
          SiteError: nobody yet.
        """
        path = self.path / "coordinator.json"
        try:
            return PublicIdentity.from_json(json.loads(path.read_text()))
        except FileNotFoundError as error:
            raise SiteError(
                f"{path} is missing: the site listens to nobody. `fedloom site trust FILE` takes "
                "the coordinator's public identity, once its fingerprint was compared."
            ) from error
        except (IdentityError, ValueError) as error:
            raise SiteError(f"{path} is damaged; `fedloom site trust FILE` again.") from error

    @property
    def policy(self) -> Policy:
        """What may leave; raises PolicyError."""
        return load_policy(self.path / "policy.yaml")

    @property
    def secret(self) -> bytes:
        """32 bytes that never leave.

        Raises:
          SiteError: missing, damaged, or others can read them.
        """
        path = self.path / "secret"
        if not path.is_file() or stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise SiteError(f"{path} must be there and readable by its owner only (chmod 600).")
        secret = path.read_bytes()
        if len(secret) != SECRET_BYTES:
            raise SiteError(f"{path} has {len(secret)} bytes, not {SECRET_BYTES}: put back a copy.")
        return secret

    @property
    def owner(self) -> Owner:
        """The same secret, and what the site's data have told; raises PolicyError."""
        given = self.policy.privacy_budget
        budget = None if given is None else Budget(given.epsilon, given.delta)
        return Owner(self.path, budget, "all records")

    @property
    def token(self) -> str:
        """What the gateway knows the site by; empty where there is none.

        Raises:
          SiteError: others can read it.
        """
        path = self.path / "token"
        if not path.exists():
            return ""
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise SiteError(f"{path} must be readable by its owner only (chmod 600).")
        return path.read_text().strip()

    @property
    def log(self) -> AuditLog:
        """What the site decided."""
        return AuditLog(self.path / "log.jsonl")

    @property
    def status_file(self) -> Path:
        """Running or paused."""
        return self.path / "status.json"

    @property
    def store(self) -> Store:
        """The site's own blobs."""
        return Store(self.path / "store")

    @property
    def cache(self) -> Path:
        """Features of frozen backbones."""
        return self.path / "cache"

    @property
    def mailbox(self) -> Mailbox:
        """Where the coordinator is met."""
        return Mailbox(Store(self.settings.mailbox))

    def run(self, run: str) -> Path:
        """What belongs to one run; its id was checked before."""
        return self.path / "runs" / run


def make_site(path: Path, settings: SiteSettings, policy_text: str) -> SiteFolder:
    """A new site's folder with fresh keys; it trusts nobody and lets nothing out yet.

    Args:
      policy_text: of ``policy.yaml``.

    Raises:
      SiteError: the folder holds a site already.
    """
    if (path / "site.yaml").exists() or (path / "identity.json").exists():
        raise SiteError(f"{path} holds a site already; its keys and log are never overwritten.")
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    save_identity(new_identity(settings.name), path / "identity.json")
    descriptor = os.open(path / "secret", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(SECRET_BYTES))
    (path / "policy.yaml").write_text(policy_text)
    site = SiteFolder(path)
    write_settings(site, settings)
    return site


def write_settings(site: SiteFolder, settings: SiteSettings) -> None:
    """``site.yaml`` anew, without its comments."""
    dumped = settings.model_dump(mode="json")
    (site.path / "site.yaml").write_text(yaml.safe_dump(dumped, sort_keys=False))


def trust(site: SiteFolder, coordinator: PublicIdentity) -> None:
    """From now on the site listens to this coordinator, and to nobody else."""
    (site.path / "coordinator.json").write_text(canonical_json(coordinator.to_json()))
