"""Before the first round: what each site says of its data, the audit of all, each one's orders."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fedcore.audit.report import AuditReport
from fedcore.config import RunConfig
from fedcore.numerics import code_digest
from fedcore.plan import RunPlan
from fedcore.sites.admit import Told, admit_facts
from fedcore.sites.announcement import Announcement, Ask
from fedcore.sites.correspondence import Correspondence
from fedcore.sites.description import Description, read_description
from fedcore.sites.inquiry import Inquiry, Preparation
from fedcore.sites.planning import inquiries
from fedcore.sites.refusal import Reason, Refusal
from fedcore.sites.request import Request
from fedcore.sites.shared import Drop, audit_sites

T = TypeVar("T")
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.05, 1.0, 1.5
# A site that says no is asked again: its administrator may be looking at it.
ASKED_AGAIN = 5.0
ASKED_AGAIN_AT_MOST = 60.0


class TooFewSites(RuntimeError):
    """Fewer sites take part than the run needs; the message names them and what they said."""


@dataclass(frozen=True)
class Waiting:
    """How long sites are waited for, in seconds.

    Attributes:
      enough: so many must take part.
      join: once they do, the others have until then.
      limit: the run gives up when there are fewer.
    """

    enough: int
    join: float
    limit: float


@dataclass
class Gathering:
    """Asks sites that have joined, or may.

    Attributes:
      lanes: site -> its lane.
      waiting: how long.
      say: tells the operator who is waited for and what a site answers.
    """

    lanes: Mapping[str, Correspondence]
    waiting: Waiting
    say: Callable[[str], None] = lambda message: None

    def describe(
        self, config: RunConfig, salt: str
    ) -> tuple[tuple[Description, ...], AuditReport, Drop]:
        """What the sites say of their data, once they have left out what others hold too.

        Returns:
          the descriptions; the audit of all of them, and what each site leaves out.

        Raises:
          TooFewSites: nobody, or not enough.
        """
        first = self._describe(config, salt, {site: {} for site in self.lanes})
        report, drop = audit_sites(list(first.values()), config.audit)
        again = self._describe(config, salt, drop) if drop else {}
        lost = drop.keys() - again.keys()
        kept = {site: one for site, one in {**first, **again}.items() if site not in lost}
        if len(kept) < self.waiting.enough:
            raise TooFewSites(f"{len(kept)} sites described their data twice; {sorted(lost)} not.")
        return tuple(kept.values()), report, drop

    def prepare(self, plan: RunPlan, orders: Mapping[str, Preparation]) -> None:
        """Has the sites lay out their data as the plan needs them.

        Raises:
          TooFewSites: not enough have.
        """
        said = {site: _asks(Ask.PREPARE, plan.config, how, plan) for site, how in orders.items()}
        self._ask(
            {site: one for site, one in said.items() if site in self.lanes},
            lambda site, facts: facts,
        )

    def _describe(self, config: RunConfig, salt: str, drop: Drop) -> dict[str, Description]:
        asked = inquiries(config, list(drop), salt, drop)
        return self._ask(
            {site: _asks(Ask.AUDIT, config, what) for site, what in asked.items()},
            lambda site, facts: read_description(facts, site),
        )

    def _ask(
        self, said: Mapping[str, Announcement], read: Callable[[str, dict[str, Any]], T]
    ) -> dict[str, T]:
        """Site -> its answer, of those that gave one in time."""
        open_, answers, words = dict(said), dict[str, T](), dict[str, str]()
        due = dict[str, float]()
        for site, one in said.items():
            self.lanes[site].announce(one)
        started, pause, enough = time.monotonic(), FIRST_PAUSE, min(self.waiting.enough, len(said))
        self.say(f"asking {len(said)} sites to {_WHAT[next(iter(said.values())).ask]}")
        while open_:
            now, heard = time.monotonic() - started, False
            for site in sorted(open_):
                told = self._hear(site, open_[site]) if site not in due else None
                if told is not None and told.facts is not None:
                    try:
                        answers[site], heard = read(site, told.facts), True
                        del open_[site]
                        continue
                    except Refusal as refusal:
                        told = Told(None, str(refusal.reason))
                if told is not None:
                    if words.get(site) != told.code:
                        words[site] = told.code
                        self.say(f"site {site} says {told.code}; it is asked again")
                    attempt = open_[site].attempt
                    due[site] = now + min(ASKED_AGAIN * 2**attempt, ASKED_AGAIN_AT_MOST)
                elif site in due and now >= due[site]:
                    del due[site]
                    open_[site] = replace(open_[site], attempt=open_[site].attempt + 1)
                    self.lanes[site].announce(open_[site])
            ends = self.waiting.join if len(answers) >= enough else self.waiting.limit
            if not open_ or now >= ends:
                break
            pause = FIRST_PAUSE if heard else min(LONGEST_PAUSE, pause * GROWTH)
            time.sleep(pause * random.uniform(0.8, 1.2))
        if len(answers) < enough:
            raise TooFewSites(_too_few(said, answers, words, enough, self.waiting.limit))
        for site in sorted(open_):
            self.say(f"site {site} does not take part: {words.get(site, 'no answer')}")
        return answers

    def _hear(self, site: str, said: Announcement) -> Told | None:
        lane = self.lanes[site]
        try:
            data = lane.answer(said.key, said.attempt)
            if data is None:
                return None
            return admit_facts(
                data,
                lane.fetch,
                run=lane.run,
                key=said.key,
                attempt=said.attempt,
                site=lane.site.identity,
                coordinator=lane.coordinator,
            )
        except Refusal as refusal:
            return None if refusal.reason is Reason.MISSING_BLOB else Told(None, refusal.reason)


_WHAT = {Ask.AUDIT: "describe their data", Ask.PREPARE: "prepare their data"}


def _asks(
    ask: Ask, config: RunConfig, about: Inquiry | Preparation, plan: RunPlan | None = None
) -> Announcement:
    weights = plan.class_weights if plan else None
    return Announcement(ask, facts=Request(config, code_digest(), about, weights).to_json())


def _too_few(
    said: Mapping[str, Any],
    answers: Mapping[str, Any],
    words: Mapping[str, str],
    enough: int,
    limit: float,
) -> str:
    silent = [f"{site}: {words.get(site, 'no answer')}" for site in said if site not in answers]
    return (
        f"{len(answers)} of {len(said)} sites take part after {limit:g} s, and {enough} are needed "
        f"({'; '.join(sorted(silent))}). See that `fedloom site serve` runs there and that its "
        "administrator has approved the run; then retry."
    )
