"""Sites that were invited and were not there at the beginning: each takes part from the round after
it has described its data and laid them out.

Nobody waits for them: between two rounds the coordinator looks whether they have said something.
What the first sites' data decided stays: how columns are scaled, and the weights of labels. Who is
asked changes, and that is a decision in the run's chain: a run that goes on, and whoever checks
it, has the same sites in the same round.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from fedcore.audit.settings import AuditSettings
from fedcore.chain import Chain
from fedcore.decisions import Answer, Question, Verdict
from fedcore.digests import canonical_json
from fedcore.engines.sites import SitesEngine
from fedcore.plan import RunPlan
from fedcore.refs import Ref
from fedcore.sites.admit import Told
from fedcore.sites.announcement import Announcement, Ask
from fedcore.sites.description import Description, read_description
from fedcore.sites.gather import Gathering, asks
from fedcore.sites.inquiry import Preparation, read_preparation
from fedcore.sites.planning import SitesDiffer, holding_of, inquiries, require_alike
from fedcore.sites.refusal import Refusal
from fedcore.sites.shared import audit_sites

WHO = "the coordinator"
WHY = "It has described its data, which fit the run's, and has laid them out."
ASKED_AGAIN = 10.0  # seconds: a site that says no may be looked at by its administrator
NOTE = "descriptions"


class DoesNotFit(ValueError):
    """A site cannot join a run that has begun; the message says why."""


@dataclass(frozen=True)
class _Newcomer:
    """How far a site has come.

    Attributes:
      said: what it is asked now.
      since: when it was found to say no, or None.
      order: how it lays out its data; None until it has described them.
      description: of its data; None until then.
      is_asked_twice: it was asked to leave rows out.
    """

    said: Announcement
    since: float | None = None
    order: Preparation | None = None
    description: Description | None = None
    is_asked_twice: bool = False


@dataclass
class Joining:
    """Looks after the sites that were invited and are not in the plan.

    Attributes:
      gathering: asks them; its lanes are those of the engine too.
      chain: of the run.
      engine: does the rounds.
      salt: of the run's sample hashes.
      clock: seconds.
    """

    gathering: Gathering
    chain: Chain
    engine: SitesEngine
    salt: str
    clock: Callable[[], float] = time.monotonic
    _newcomers: dict[str, _Newcomer] = field(default_factory=dict, init=False)
    _out: set[str] = field(default_factory=set, init=False)

    def look(self, plan: RunPlan) -> RunPlan:
        """The plan once those have joined who are ready; to be called between two rounds.

        Raises:
          RunTakenOver: another process decided meanwhile.
        """
        lanes = self.gathering.lanes
        for site in sorted(lanes.keys() - plan.federation.clients.keys() - self._out):
            if lanes[site].site.status == "active":
                try:
                    plan = self._looked_at(site, plan)
                except (DoesNotFit, SitesDiffer) as error:
                    self._out.add(site)
                    self.gathering.say(f"site {site} cannot join this run any more: {error}")
        return plan

    def _looked_at(self, site: str, plan: RunPlan) -> RunPlan:
        one = self._newcomers.get(site) or self._asked(site, plan, {})
        if one.since is not None:
            if self.clock() - one.since < ASKED_AGAIN:
                return plan
            again = replace(one.said, attempt=one.said.attempt + 1)
            one = replace(one, said=again, since=None)
        self._say(site, one)
        told = self.gathering.hear(site, one.said)
        if told is not None and told.facts is not None and one.order is None:
            try:
                self._described(site, one, read_description(told.facts, site), plan)
                return plan
            except Refusal as refusal:
                told = self.gathering.refuse(site, one.said, refusal)
        if told is not None and told.facts is None:
            self._said_no(site, one, told)
        return plan if told is None or told.facts is None else self._joined(site, one, plan)

    def _asked(self, site: str, plan: RunPlan, drop: Mapping[str, tuple[str, ...]]) -> _Newcomer:
        inquiry = inquiries(plan.config, [site], self.salt, {site: drop})[site]
        return _Newcomer(asks(Ask.AUDIT, plan.config, inquiry), is_asked_twice=bool(drop))

    def _say(self, site: str, one: _Newcomer) -> None:
        self.gathering.lanes[site].announce(one.said)
        self._newcomers[site] = one

    def _said_no(self, site: str, one: _Newcomer, told: Told) -> None:
        if one.said.attempt == 0:
            self.gathering.say(f"site {site} would join and says {told.code}; it is asked again")
        self._newcomers[site] = replace(one, since=self.clock())

    def _described(
        self, site: str, one: _Newcomer, description: Description, plan: RunPlan
    ) -> None:
        """Asks for what comes next: that rows are left out, or that the data are laid out."""
        drop = leaves_out(plan.config.audit, descriptions_of(self.chain), description)
        if drop and one.is_asked_twice:
            raise DoesNotFit("it was asked to leave rows out that others hold, and still has some.")
        if drop:
            self._say(site, self._asked(site, plan, drop))
            return
        asked = one.said.facts["inquiry"]
        orders = self.chain.annotation("sites")
        scaling = next(iter(orders.values()))["scaling"]
        order = read_preparation({"inquiry": asked, "scaling": scaling})
        said = asks(Ask.PREPARE, plan.config, order, plan)
        self._say(site, _Newcomer(said, order=order, description=description))

    def _joined(self, site: str, one: _Newcomer, plan: RunPlan) -> RunPlan:
        done = sum(1 for _ in self.chain.records())
        if done >= plan.config.rounds.count:
            return plan
        assert one.order is not None and one.description is not None
        orders = self.chain.annotation("sites")
        self.chain.annotate("sites", {**orders, site: one.order.to_json()})
        keep_descriptions(self.chain, [*descriptions_of(self.chain), one.description])
        held = holding_of(one.description, one.order.scaling)
        point = "join-" + "".join(c if c.isalnum() else "-" for c in site.lower())
        asked = Question(point, done, f"Site {site} was not there at the beginning. Add it?")
        decision = self.chain.decide(
            asked, Answer(Verdict.ADD, WHO, WHY, (site,)), held={site: asdict(held)}
        )
        engine = self.engine
        engine.sites = {**engine.sites, site: self.gathering.lanes[site]}
        splits = {ref.digest: split for split, ref in held.blobs.items()}
        engine.splits = {**engine.splits, site: splits}
        self.gathering.say(f"site {site} takes part from round {done + 1} on")
        return plan.after((*plan.decisions, decision))


def leaves_out(
    settings: AuditSettings, others: Sequence[Description], one: Description
) -> Mapping[str, tuple[str, ...]]:
    """Split -> hashes of the samples that a site leaves out to join a run, since others hold them.

    Args:
      others: what those have described that take part.

    Raises:
      DoesNotFit: the audit of all is not passed; or others would have to leave samples out, whose
        models they are in already.
      SitesDiffer: it has other data than the others.
    """
    require_alike([*others, one])
    report, drop = audit_sites([*others, one], settings)
    if report.reason:
        raise DoesNotFit(report.reason)
    if had := sorted(drop.keys() - {one.client}):
        raise DoesNotFit(
            f"it holds samples that {', '.join(had)} would have to leave out, and have trained on."
        )
    return drop.get(one.client, {})


def keep_descriptions(chain: Chain, descriptions: Sequence[Description]) -> None:
    """Keeps what the sites have described beside the chain, for those that join later."""
    told = [one.to_json() for one in descriptions]
    ref = chain.store.put(canonical_json(told).encode(), NOTE)
    chain.annotate(NOTE, vars(ref))


def descriptions_of(chain: Chain) -> list[Description]:
    """What the sites that take part have described.

    Raises:
      DoesNotFit: nobody kept it: the run was begun by another release.
    """
    kept = chain.annotation(NOTE)
    if kept is None:
        raise DoesNotFit("the run keeps no descriptions of the first sites' data to compare with.")
    return [
        read_description(one, one["client"]) for one in json.loads(chain.store.get(Ref(**kept)))
    ]
