"""What the coordinator asks a site for, as the session has laid it out for the administrator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from fedcore.chain import RUN_ID
from fedcore.config import ConfigError, RunConfig, make_config
from fedcore.privacy.private_job import protects_records
from fedcore.sites.folder import SiteFolder
from fedcore.sites.outgoing import DIGEST, Asked, Withheld
from fedcore.sites.permission import refused_result
from fedcore.sites.policy import Policy
from fedcore.sites.status import SiteStatus


class RequestError(ValueError):
    """What a run asks for cannot be shown; the message says the way out."""


@dataclass(frozen=True)
class Requested:
    """What is to be approved.

    Attributes:
      run: id.
      code: digest of the sources that planned it.
      config: of the run; its digest is the plan.
    """

    run: str
    code: str
    config: RunConfig

    @property
    def plan(self) -> str:
        """Digest of all that the run's results depend on."""
        return self.config.digest


def read_requested(site: SiteFolder, run: str) -> Requested:
    """What a run asks for.

    Raises:
      RequestError: it has asked for nothing, or its file is not as the session wrote it.
    """
    if not RUN_ID.fullmatch(run):
        raise RequestError(f"run: the id of a run matches {RUN_ID.pattern}.")
    path = site.run(run) / "request.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        found = Requested(run, value["code"], make_config(value["config"]))
        if found.plan == value["plan"] and DIGEST.fullmatch(found.code):
            return found
    except FileNotFoundError:
        known = ", ".join(_runs(site)) or "none"
        raise RequestError(
            f"run={run!r} has asked for nothing here; these have: {known}. A request appears once "
            "the coordinator has started the run and this site's worker has run."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise RequestError(_damaged(path.name, run)) from error
    raise RequestError(_damaged(path.name, run))


def requested_runs(site: SiteFolder) -> tuple[str, ...]:
    """Ids of the runs that have asked, sorted."""
    return tuple(_runs(site))


def why_not(policy: Policy, status: SiteStatus, requested: Requested) -> Withheld | None:
    """Why a run would get no result even of a site that is not paused; None when it would."""
    running = replace(status, state="running")
    first = next(iter(policy.jobs), "train")
    asked = Asked(
        requested.run,
        requested.config.name,
        first,
        0,
        "0" * 64,  # of no job in particular
        requested.plan,
        requested.code,
        protects_records(requested.config.privacy),
    )
    return refused_result(policy, running, asked)


def _runs(site: SiteFolder) -> Iterator[str]:
    for path in sorted((site.path / "runs").glob("*/request.json")):
        if RUN_ID.fullmatch(path.parent.name):
            yield path.parent.name


def _damaged(name: str, run: str) -> str:
    return (
        f"{name} of run={run!r} is damaged, or of another version of this program. Remove it: the "
        "worker writes it again when the coordinator asks the next time."
    )
