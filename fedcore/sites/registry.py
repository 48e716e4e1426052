"""The sites that a coordinator knows: public keys and what each has registered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fedcore.digests import canonical_json
from fedcore.sites.identity import IdentityError, PublicIdentity
from fedcore.store import Store


class UnknownSite(LookupError):
    """No site of that name is registered; the message lists those that are."""


@dataclass(frozen=True)
class RegisteredSite:
    """One site.

    Attributes:
      identity: its public keys.
      most_examples: more than these a reply may not claim.
      status: ``active`` or ``revoked``.
      former: fingerprints of keys that it had before.
    """

    identity: PublicIdentity
    most_examples: int
    status: Literal["active", "revoked"] = "active"
    former: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The site's name, which is its client id in every run."""
        return self.identity.name


@dataclass(frozen=True)
class SiteRegistry:
    """One small file per site, in a folder of the coordinator's."""

    folder: Path

    def register(self, identity: PublicIdentity, most_examples: int) -> RegisteredSite:
        """A new site.

        Raises:
          FileExistsError: the name is taken; keys are changed by ``rotate``.
          ValueError: no examples.
        """
        if most_examples < 1:
            raise ValueError(f"most_examples={most_examples}: a site registers at least 1.")
        site = RegisteredSite(identity, most_examples)
        self._store.write(_name(site.name), _encoded(site), exclusive=True)
        return site

    def rotate(self, identity: PublicIdentity) -> RegisteredSite:
        """New keys for a site, by a person who compared the fingerprints.

        Raises:
          UnknownSite: it is not registered.
        """
        before = self.site(identity.name)
        former = (*before.former, before.identity.fingerprint)
        return self._write(replace(before, identity=identity, status="active", former=former))

    def revoke(self, name: str) -> RegisteredSite:
        """Nothing from this site is accepted any more, until its keys are rotated."""
        return self._write(replace(self.site(name), status="revoked"))

    def site(self, name: str) -> RegisteredSite:
        """A registered site, revoked or not.

        Raises:
          UnknownSite: it is not registered.
        """
        known = self.sites()
        if name not in known:
            raise UnknownSite(
                f"no site {name!r} is registered; registered are {sorted(known) or 'none'}. "
                "`fedloom sites add FILE` takes the public identity that the site sends."
            )
        return known[name]

    def sites(self) -> Mapping[str, RegisteredSite]:
        """name -> site, sorted."""
        found = (_decoded(path) for path in sorted(self.folder.glob("*.json")))
        return {site.name: site for site in found}

    def _write(self, site: RegisteredSite) -> RegisteredSite:
        self._store.write(_name(site.name), _encoded(site))
        return site

    @property
    def _store(self) -> Store:
        return Store(self.folder)


def _name(site: str) -> str:
    return f"{site}.json"


def _encoded(site: RegisteredSite) -> bytes:
    return canonical_json(asdict(site)).encode()


def _decoded(path: Path) -> RegisteredSite:
    try:
        value: dict[str, Any] = json.loads(path.read_text())
        identity = PublicIdentity.from_json(value.pop("identity"))
        return RegisteredSite(identity, **{**value, "former": tuple(value["former"])})
    except (ValueError, KeyError, TypeError) as error:
        raise IdentityError(f"{path} is damaged: register the site again.") from error
