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
from fedcore.report.words import duration, some
from fedcore.sites.admit import Told, admit_facts
from fedcore.sites.announcement import Announcement, Ask
from fedcore.sites.codes import Code, in_words
from fedcore.sites.correspondence import Correspondence
from fedcore.sites.description import Description, read_description
from fedcore.sites.inquiry import Preparation
from fedcore.sites.planning import inquiries
from fedcore.sites.refusal import Reason, Refusal
from fedcore.sites.refusals import Refused, untold
from fedcore.sites.request import About, Request
from fedcore.sites.shared import Drop, audit_sites
from fedcore.sites.site_statistics import SiteStatistics, read_statistics
from fedcore.sites.wanted import StatisticsInquiry, Wanted

T = TypeVar("T")
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.05, 1.0, 1.5
# A site that says no is asked again: its administrator may be looking at it.
ASKED_AGAIN = 5.0
FIRST_WORD = 15.0  # of who is waited for; each further one after twice the time
ASKED_AGAIN_AT_MOST = 60.0
# A run need not have a table: a no that no administrator is about to change is an answer.
NO_TABLE = frozenset(
    {
        Code.GROUP_TOO_SMALL,
        Code.STATISTIC_NOT_ALLOWED,
        Code.JOB_NOT_ALLOWED,
        Code.TOO_MANY_ANSWERS,
        Code.TOO_LARGE,
        Code.WORK_FAILED,
    }
)


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
      refused: called for each refusal at the boundary.
    """

    lanes: Mapping[str, Correspondence]
    waiting: Waiting
    say: Callable[[str], None] = lambda message: None
    refused: Refused = untold

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

    def statistics(
        self, config: RunConfig, salt: str, wanted: Wanted, drop: Drop | None = None
    ) -> dict[str, SiteStatistics]:
        """What the sites tell of their columns; :func:`fedcore.sites.federated_statistics.merged`
        adds it up. A run gets one table of each site, so it must be asked for at once.

        Args:
          drop: what each site leaves out, as :meth:`describe` gives it.

        Returns:
          site -> what it tells, which may be a code.

        Raises:
          TooFewSites: nobody, or not enough, has said anything.
        """
        asked = inquiries(config, list(self.lanes), salt, drop or {})

        def read(site: str, told: Told) -> SiteStatistics | None:
            if told.facts is not None:
                return read_statistics(told.facts, wanted)
            return SiteStatistics(wanted, code=told.code) if told.code in NO_TABLE else None

        about = {site: StatisticsInquiry(inquiry, wanted) for site, inquiry in asked.items()}
        return self._ask(
            {site: asks(Ask.STATISTICS, config, one) for site, one in about.items()}, read
        )

    def prepare(self, plan: RunPlan, orders: Mapping[str, Preparation]) -> None:
        """Has the sites lay out their data as the plan needs them.

        Raises:
          TooFewSites: not enough have.
        """
        said = {site: asks(Ask.PREPARE, plan.config, how, plan) for site, how in orders.items()}
        self._ask(
            {site: one for site, one in said.items() if site in self.lanes},
            lambda site, told: told.facts,
        )

    def _describe(self, config: RunConfig, salt: str, drop: Drop) -> dict[str, Description]:
        asked = inquiries(config, list(drop), salt, drop)
        return self._ask(
            {site: asks(Ask.AUDIT, config, what) for site, what in asked.items()},
            lambda site, told: None if told.facts is None else read_description(told.facts, site),
        )

    def _ask(
        self, said: Mapping[str, Announcement], read: Callable[[str, Told], T | None]
    ) -> dict[str, T]:
        """Site -> its answer, of those that gave one in time; it is asked again where what it told
        is read as None."""
        open_, answers, words = dict(said), dict[str, T](), dict[str, str]()
        due = dict[str, float]()
        for site, one in said.items():
            self.lanes[site].announce(one)
        started, pause, enough = time.monotonic(), FIRST_PAUSE, min(self.waiting.enough, len(said))
        what, word = _WHAT[next(iter(said.values())).ask], FIRST_WORD
        self.say(f"asking {len(said)} sites to {what}")
        while open_:
            now, heard = time.monotonic() - started, False
            for site in sorted(open_):
                told = self.hear(site, open_[site]) if site not in due else None
                try:
                    if told is not None and (answer := read(site, told)) is not None:
                        answers[site], heard = answer, True
                        del open_[site]
                        continue
                except Refusal as refusal:
                    told = self.refuse(site, open_[site], refusal)
                if told is not None:
                    if words.get(site) != told.code:
                        words[site] = told.code
                        self.say(f"site {site}: {in_words(told.code)}; it is asked again")
                    attempt = open_[site].attempt
                    due[site] = now + min(ASKED_AGAIN * 2**attempt, ASKED_AGAIN_AT_MOST)
                elif site in due and now >= due[site]:
                    del due[site]
                    open_[site] = replace(open_[site], attempt=open_[site].attempt + 1)
                    self.lanes[site].announce(open_[site])
            ends = self.waiting.join if len(answers) >= enough else self.waiting.limit
            if not open_ or now >= ends:
                break
            if now >= word:
                word = 2 * now
                self.say(
                    f"{len(answers)} of {len(said)} sites have answered; waiting for {some(open_)} "
                    f"to {what}, {duration(ends - now)} at most"
                )
            pause = FIRST_PAUSE if heard else min(LONGEST_PAUSE, pause * GROWTH)
            time.sleep(pause * random.uniform(0.8, 1.2))
        if len(answers) < enough:
            raise TooFewSites(_too_few(said, answers, words, enough, self.waiting.limit))
        for site in sorted(open_):
            self.say(f"site {site} does not take part: {_why(words, site)}")
        self.say(f"{len(answers)} of {len(said)} sites have answered")
        return answers

    def hear(self, site: str, said: Announcement) -> Told | None:
        """What a site has said to an announcement; None: nothing yet."""
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
            # On a store without order the envelope may be there before its blob.
            is_early = refusal.reason is Reason.MISSING_BLOB
            return None if is_early else self.refuse(site, said, refusal)

    def refuse(self, site: str, said: Announcement, refusal: Refusal) -> Told:
        """What is not admitted, told; the site is taken to have said its code."""
        self.refused(site, refusal, said.ask.value, said.round)
        return Told(None, refusal.reason)


_WHAT = {
    Ask.AUDIT: "describe their data",
    Ask.STATISTICS: "tell statistics of their columns",
    Ask.PREPARE: "prepare their data",
}


def asks(ask: Ask, config: RunConfig, about: About, plan: RunPlan | None = None) -> Announcement:
    """What is announced to a site before it takes part in rounds."""
    weights = plan.class_weights if plan else None
    return Announcement(ask, facts=Request(config, code_digest(), about, weights).to_json())


def _too_few(
    said: Mapping[str, Any],
    answers: Mapping[str, Any],
    words: Mapping[str, str],
    enough: int,
    limit: float,
) -> str:
    silent = [f"{site}: {_why(words, site)}" for site in said if site not in answers]
    return (
        f"{len(answers)} of {len(said)} sites take part after {limit:g} s, and {enough} are needed "
        f"({'; '.join(sorted(silent))}). See that `fedloom site serve` runs there and that its "
        "administrator has approved the run; then retry."
    )


def _why(words: Mapping[str, str], site: str) -> str:
    return in_words(words[site]) if site in words else "no answer"
