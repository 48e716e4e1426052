"""A site's part in one run: it reads what is asked, decides by its own policy, works on its own
rows and leaves the answer. Nobody calls it, and it does nothing but what was approved there."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fedcore.digests import canonical_json, digest_bytes
from fedcore.execute import execute
from fedcore.numerics import code_digest
from fedcore.privacy.private_job import protects_records
from fedcore.refs import Ref
from fedcore.sites.admit import seal_context
from fedcore.sites.announcement import Announcement, Ask
from fedcore.sites.codes import FAILURES, Code, code_of
from fedcore.sites.folder import SiteFolder
from fedcore.sites.gate import Gate, open_gate
from fedcore.sites.inbox import Inbox
from fedcore.sites.outgoing import (
    Asked,
    Excuse,
    Outgoing,
    Released,
    Withheld,
)
from fedcore.sites.permission import refused_result
from fedcore.sites.policy import PolicyError
from fedcore.sites.refusal import Refusal
from fedcore.sites.reply import Reply
from fedcore.sites.request import Request, read_request
from fedcore.sites.sealing import seal
from fedcore.sites.status import StatusError, read_status
from fedcore.sites.workbench import CannotDo, Work, Workbench
from fedcore.store import Store

# An idle session looks often enough to begin within two seconds, and backs off to that.
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.1, 1.0, 1.5
LOG = logging.getLogger("fedloom.site")  # for the people at the site; never sent anywhere


@dataclass
class Session:
    """One site in one run. It keeps nothing that it cannot read again: after a crash another one
    takes up where it was, and answers what was answered with the same bytes.

    Attributes:
      site: the site's folder.
      run: id of the run.
      opening: how often the run was taken up, from 1.
      work: does its jobs.
      closed: the coordinator has said that the run is over.

    Raises:
      SiteError, IdentityError: the folder cannot be used.
    """

    site: SiteFolder
    run: str
    opening: int = 1
    work: Work = execute
    closed: bool = field(default=False, init=False)
    _request: Request | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.name = self.site.settings.name
        self._gate: Gate = open_gate(self.site)
        self._bench = Workbench(self.site, self.name, self.run, self.work)
        self._inbox = Inbox(
            self.site.mailbox,
            self.site.identity,
            self.site.coordinator,
            self.run,
            self.opening,
            self._not_theirs,
        )

    def step(self) -> bool:
        """Takes one announcement and answers it; False when there was none, or the site is paused:
        what is asked waits in the mailbox until it is resumed."""
        if self._is_paused():
            return False
        said = self._inbox.take()
        if said is None:
            return False
        if said.ask is Ask.CLOSE:
            self.closed = True
            self._bench.end()
        elif not self._inbox.has_answered(said):
            self._answer(said)
        elif said.ask is Ask.PREPARE:  # by a session before this one; this one has no plan yet
            found = self._asked(said)
            if found is not None and self._why_not(found[0]) is None:
                self._value(said, found[1])
        return True

    def _answer(self, said: Announcement) -> None:
        found = self._asked(said)
        if found is None:
            return
        decision = self._decided(said, *found)
        if isinstance(decision, Withheld):
            LOG.warning("%s: no answer to %s. %s", self.run, said.ask, decision.reason)
            return
        if decision.code:
            LOG.warning("%s: %s is answered with %s.", self.run, said.ask, decision.code)
        self._leave(said, decision)

    def _asked(self, said: Announcement) -> tuple[Asked, Request] | None:
        """What the policy is to decide on, and what it belongs to; None where nothing can be said
        of the run."""
        if said.ask in (Ask.AUDIT, Ask.STATISTICS, Ask.PREPARE):
            try:
                self._request = read_request(said.facts)
            except Refusal as refusal:
                LOG.warning("%s: what is asked cannot be read (%s).", self.run, refusal)
                return None
            self._show(self._request)
        if (request := self._request) is None:
            LOG.warning("%s: %s was asked before the run was described.", self.run, said.ask)
            return None
        asked = Asked(
            self.run,
            request.config.name,
            said.ask.value,
            said.round,
            said.key,
            request.config.digest,
            request.code,
            protects_records(request.config.privacy),
        )
        return asked, request

    def _decided(self, said: Announcement, asked: Asked, request: Request) -> Released | Withheld:
        if (code := self._why_not(asked)) is not None:
            return self._gate.release(asked, Excuse(code))
        # Data that were laid out for another process are not laid out for this one.
        kept = None if said.ask is Ask.PREPARE else self._gate.again(asked)
        decision = kept or self._gate.release(asked, self._value(said, request))
        if isinstance(decision, Withheld):
            LOG.warning("%s: %s stays here. %s", self.run, said.ask, decision.reason)
            return self._gate.release(asked, Excuse(decision.code))
        return decision

    def _why_not(self, asked: Asked) -> Code | None:
        """Why no work is done for this at all."""
        try:
            policy, status = self.site.policy, read_status(self.site.status_file)
        except (PolicyError, StatusError) as error:
            LOG.error("%s", error)
            return Code.SITE_NOT_READY
        if refused := refused_result(policy, status, asked):
            LOG.warning("%s: %s", self.run, refused.reason)
            return refused.code
        return None if asked.code == code_digest() else Code.OTHER_CODE

    def _value(self, said: Announcement, request: Request) -> Outgoing:
        """The work, or why it could not be done; what exactly happened stays in the site's log."""
        try:
            return self._bench.do(said, request)
        except Exception as error:
            LOG.exception("%s: %s failed.", self.run, said.ask)
            return Excuse(error.code if isinstance(error, CannotDo) else code_of(error))

    def _leave(self, said: Announcement, released: Released) -> None:
        """Seals what leaves for the coordinator and posts it, the blob before its envelope."""
        if released.code:
            status = "failed" if released.code in FAILURES else "refused"
            reply = Reply(said.key, status, said.attempt, released.code)  # type: ignore[arg-type]
        elif said.ask is Ask.EVALUATE:
            reply = Reply(
                said.key,
                "done",
                said.attempt,
                num_examples=released.num_examples,
                metrics=released.metrics,
            )
        else:
            is_update = said.ask is Ask.TRAIN and released.blob is not None
            facts = canonical_json(dict(released.facts)).encode()
            plain = self.site.store.get(released.blob) if is_update else facts  # type: ignore[arg-type]
            inbox = self._inbox
            sealed = seal(plain, inbox.coordinator, seal_context(self.run, said.key))
            reply = Reply(
                said.key,
                "done",
                said.attempt,
                base=said.base.digest if said.base else "",
                num_examples=released.num_examples,
                metrics=released.metrics,
                sealed=inbox.mailbox.post_blob(inbox.lane.outbox, sealed, "sealed"),
                plain=Ref(digest_bytes(plain), len(plain), "plain"),
            )
        self._inbox.answer(reply)

    def _show(self, request: Request) -> None:
        """Leaves what is asked where the site's administrator reads and approves it."""
        folder = self.site.run(self.run)
        folder.mkdir(parents=True, exist_ok=True)
        value = {
            "purpose": request.config.name,
            "plan": request.config.digest,
            "code": request.code,
            "config": request.config.model_dump(mode="json", exclude={"speed", "engine"}),
        }
        Store(folder).write("request.json", canonical_json(value).encode())

    def _is_paused(self) -> bool:
        try:
            return read_status(self.site.status_file).state != "running"
        except StatusError as error:
            LOG.error("%s", error)
            return True

    def _not_theirs(self, refusal: Refusal) -> None:
        LOG.warning("%s: an announcement was refused (%s).", self.run, refusal)


def attend(sessions: Sequence[Session], until: Callable[[], bool] = lambda: False) -> None:
    """Serves sessions in turn, until all are closed or ``until`` says so."""
    pause = FIRST_PAUSE
    while (left := [one for one in sessions if not one.closed]) and not until():
        if any([one.step() for one in left]):
            pause = FIRST_PAUSE
            continue
        time.sleep(pause * random.uniform(0.8, 1.2))
        pause = min(LONGEST_PAUSE, pause * GROWTH)
