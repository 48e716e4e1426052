"""A run over sites: the same rounds as in one process, over data that nobody here has seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedcore.audit.audit import require_passed
from fedcore.audit.report import AuditReport
from fedcore.chain import Chain
from fedcore.config import RunConfig
from fedcore.engines.settings import Sites
from fedcore.engines.sites import Patience, SitesEngine
from fedcore.plan import RunPlan
from fedcore.sites.announcement import Announcement, Ask
from fedcore.sites.coordinator import Coordinator
from fedcore.sites.correspondence import Correspondence
from fedcore.sites.counts import counts_parquet, counts_picture
from fedcore.sites.gather import Gathering, Waiting
from fedcore.sites.inquiry import read_preparation
from fedcore.sites.joining import Joining, keep_descriptions
from fedcore.sites.mailbox import Mailbox, models
from fedcore.sites.planning import plan_of_sites, preparations
from fedcore.sites.refusals import Refused, untold
from fedcore.store import Store

Say = Callable[[str], None]
KEPT_DAYS = 30  # of what is left in the mailbox by runs that were never closed


@dataclass(frozen=True)
class Invitation:
    """The sites of one run, as the coordinator meets them.

    Attributes:
      settings: of the engine.
      enough: answers without which there is no round.
      lanes: site -> its lane.
      salt: of the run's sample hashes.
      refused: called for each refusal at the boundary.
    """

    settings: Sites
    enough: int
    lanes: Mapping[str, Correspondence]
    salt: str
    refused: Refused = untold

    def gathering(self, say: Say) -> Gathering:
        """Asks the sites about their data."""
        settings = self.settings
        waiting = Waiting(self.enough, settings.join_seconds, settings.limit_seconds)
        return Gathering(self.lanes, waiting, say, self.refused)

    def engine(self, plan: RunPlan, store: Store, say: Say) -> SitesEngine:
        """Does the plan's jobs at the sites."""
        settings = self.settings
        patience = Patience(
            settings.deadline_seconds,
            settings.limit_seconds,
            self.enough,
            settings.quorum,
            settings.grace_seconds,
            settings.retries,
        )
        splits = {
            client: {ref.digest: split for split, ref in holding.blobs.items()}
            for client, holding in plan.federation.clients.items()
        }
        return SitesEngine(
            store,
            {client: self.lanes[client] for client in plan.federation.ids if client in self.lanes},
            splits,
            patience,
            settings.most_norm,
            settings.late,
            settings.quarantine,
            refused=lambda site, refusal, job: self.refused(
                site, refusal, job.kind.value, job.round
            ),
            say=say,
        )

    def joining(self, chain: Chain, engine: SitesEngine, say: Say) -> Joining:
        """Looks after the sites that were not there when the run began."""
        return Joining(self.gathering(say), chain, engine, self.salt)

    def close(self) -> None:
        """Tells the sites that the run is over, and takes away what lies in the mailbox.

        The last announcement stays: a site that is away reads it when it comes back. What nobody
        cleared goes after a month.
        """
        long_ago = time.time() - KEPT_DAYS * 86400
        for lane in self.lanes.values():
            lane.announce(Announcement(Ask.CLOSE))
            lane.mailbox.clear(lane.lane.outbox)
        for lane in {id(lane.mailbox): lane for lane in self.lanes.values()}.values():
            lane.mailbox.clear(models(lane.run))
            lane.mailbox.expire(long_ago)


def begin_over_sites(
    config: RunConfig,
    invitation: Invitation,
    store: Store,
    run_id: str,
    say: Say,
    audited: Callable[[AuditReport], AuditReport] = require_passed,
) -> tuple[RunPlan, Chain]:
    """Asks the sites about their data, begins the run's chain, and has the data laid out.

    Audit, each site's orders, counts and their picture are kept beside the chain. The header comes
    last: a run that has begun has everything.

    Args:
      audited: shows the audit of all sites, and raises where it does not let the run go on.

    Raises:
      DataAuditFailed: the audit is not passed.
      TooFewSites, SitesDiffer: as :class:`fedcore.sites.gather.Gathering` and
        :func:`fedcore.sites.planning.plan_of_sites`.
    """
    gathering = invitation.gathering(say)
    descriptions, report, drop = gathering.describe(config, invitation.salt)
    audited(report)
    plan = plan_of_sites(config, descriptions, store)
    orders = preparations(config, descriptions, invitation.salt, drop)
    gathering.prepare(plan, orders)
    chain = Chain(store, run_id)
    manifest = store.put(counts_parquet(descriptions), "manifest")
    picture = store.put(counts_picture(descriptions), "picture")
    chain.annotate("audit", report.to_json())
    chain.annotate("warnings", list(plan.warnings))
    keep_descriptions(chain, descriptions)
    chain.annotate("sites", {site: order.to_json() for site, order in orders.items()})
    chain.annotate("partition", {"manifest": vars(manifest), "picture": vars(picture)})
    chain.begin(plan.header())
    return plan.after(chain.decisions()), chain


def meet_again(invitation: Invitation, plan: RunPlan, chain: Chain, say: Say) -> None:
    """Has the sites of a run that has begun lay out their data as before.

    Raises:
      TooFewSites: not enough have.
    """
    orders = {
        site: read_preparation(order)
        for site, order in chain.annotation("sites").items()
        if site in plan.federation.clients
    }
    invitation.gathering(say).prepare(plan, orders)


def invite(
    config: RunConfig,
    coordinator: Coordinator,
    mailbox: Mailbox,
    run: str,
    opening: int = 1,
    refused: Refused = untold,
) -> Invitation:
    """The sites that the run's engine names.

    Args:
      opening: how often the run was taken up, from 1.
      refused: called for each refusal at the boundary.

    Raises:
      UnknownSite: one is not registered, or nobody is.
      TypeError: the configuration is of no run over sites.
    """
    settings = config.engine
    if not isinstance(settings, Sites):
        raise TypeError(f"engine.kind={settings.kind!r} invites nobody.")
    lanes = coordinator.lanes(mailbox, run, opening, settings.sites)
    salt = coordinator.salt(run)
    return Invitation(settings, config.rounds.min_clients, lanes, salt, refused)
