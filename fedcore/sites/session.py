"""A site's part in one run: it reads what is asked, decides by its own policy, works on its own
rows and leaves the answer. Nobody calls it, and it does nothing but what was approved there."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from fedcore.data.dataset import Dataset
from fedcore.digests import canonical_json, digest_bytes
from fedcore.execute import execute
from fedcore.federation import Federation, Holding
from fedcore.jobs import ClientJob
from fedcore.numerics import code_digest
from fedcore.outcomes import ClientOutcome, ClientUpdate, Done, Evaluation
from fedcore.plan import RunPlan, assemble
from fedcore.refs import Ref
from fedcore.sites.admit import seal_context
from fedcore.sites.announcement import Announcement, Ask
from fedcore.sites.codes import FAILURES, Code, code_of
from fedcore.sites.description import describe
from fedcore.sites.folder import SiteFolder
from fedcore.sites.gate import Gate, open_gate
from fedcore.sites.holding import Shelf, prepare_data
from fedcore.sites.inbox import Inbox
from fedcore.sites.inquiry import Inquiry, Preparation
from fedcore.sites.local_rows import local_rows
from fedcore.sites.local_statistics import local_statistics
from fedcore.sites.mailbox import models
from fedcore.sites.outgoing import (
    Asked,
    Delta,
    Excuse,
    Facts,
    Measured,
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
from fedcore.sites.wanted import StatisticsInquiry
from fedcore.sites.wire_tensors import decode_exactly, most_bytes, template_of
from fedcore.store import AlreadyExists, Store

Work = Callable[[ClientJob, Store, Path], ClientOutcome]
"""Does a job: :func:`fedcore.execute.execute`, here or in a process of its own."""

# An idle session looks often enough to begin within two seconds, and backs off to that.
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.05, 1.0, 1.5
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
    _plan: RunPlan | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.name = self.site.settings.name
        self._gate: Gate = open_gate(self.site)
        self._shelf = Shelf(self.site.store)
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
        elif not self._inbox.has_answered(said):
            self._answer(said)
        elif said.ask is Ask.PREPARE:  # by a session before this one; this one has no plan yet
            asked = self._asked(said)
            if asked is not None and self._why_not(asked) is None:
                self._value(said)
        return True

    def _answer(self, said: Announcement) -> None:
        asked = self._asked(said)
        if asked is None:
            return
        decision = self._decided(said, asked)
        if isinstance(decision, Withheld):
            LOG.warning("%s: no answer to %s. %s", self.run, said.ask, decision.reason)
            return
        if decision.code:
            LOG.warning("%s: %s is answered with %s.", self.run, said.ask, decision.code)
        self._leave(said, decision)

    def _asked(self, said: Announcement) -> Asked | None:
        """What the policy is to decide on; None where nothing can be said of the run."""
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
        return Asked(
            self.run,
            request.config.name,
            said.ask.value,
            said.round,
            said.key,
            request.config.digest,
            request.code,
        )

    def _decided(self, said: Announcement, asked: Asked) -> Released | Withheld:
        if (code := self._why_not(asked)) is not None:
            return self._gate.release(asked, Excuse(code))
        # Data that were laid out for another process are not laid out for this one.
        kept = None if said.ask is Ask.PREPARE else self._gate.again(asked)
        decision = kept or self._gate.release(asked, self._value(said))
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

    def _value(self, said: Announcement) -> Outgoing:
        """The work, or why it could not be done; what exactly happened stays in the site's log."""
        try:
            return _WORK[said.ask](self, said)
        except Exception as error:
            LOG.exception("%s: %s failed.", self.run, said.ask)
            return Excuse(error.code if isinstance(error, _CannotDo) else code_of(error))

    def _describe(self, said: Announcement) -> Outgoing:
        inquiry = self._asks_for(said).about
        if not isinstance(inquiry, Inquiry):
            raise _CannotDo(Code.BAD_REQUEST)
        return describe(self._dataset, self.name, inquiry, secret=self.site.secret)

    def _count(self, said: Announcement) -> Outgoing:
        about = self._asks_for(said).about
        if not isinstance(about, StatisticsInquiry):
            raise _CannotDo(Code.BAD_REQUEST)
        held = local_rows(self._dataset, self.name, about.inquiry).partition.indices
        rows = held.get(about.wanted.split, {}).get(self.name, np.empty(0, np.int64))
        least = self.site.policy.minimum_group
        table = local_statistics(self._dataset, rows, about.wanted, least=least)
        # From two tables with other bins one could tell the few between two edges.
        is_first = self._first_table(said.key) == said.key
        return table if is_first else Excuse(Code.TOO_MANY_ANSWERS)

    def _first_table(self, key: str) -> str:
        """Key of the first statistics that the run asked for."""
        folder = Store(self.site.run(self.run))
        with suppress(AlreadyExists):
            folder.write("statistics", key.encode(), exclusive=True)
        return folder.read("statistics").decode()

    def _prepare(self, said: Announcement) -> Outgoing:
        request = self._asks_for(said)
        if not isinstance(request.about, Preparation):
            raise _CannotDo(Code.BAD_REQUEST)
        dataset = self._dataset
        names = prepare_data(
            dataset, self.name, request.about, secret=self.site.secret, shelf=self._shelf
        )
        blobs = {split: Ref(name, 0, "shard") for split, name in names.items()}
        self._plan = assemble(
            request.config,
            self.site.store,
            task=dataset.task,
            features=dataset.features,
            shape=dataset.splits["train"].inputs.shape[1:],
            federation=Federation({self.name: Holding(blobs, {}, ())}, {}, {}),
            class_weights=request.class_weights,
            scaling={},
            about={},
        )
        return Facts()

    def _train(self, said: Announcement) -> Outgoing:
        job, base = self._job(said)
        outcome = self._done(job)
        update = outcome.result
        assert isinstance(update, ClientUpdate)
        store = self.site.store
        return Delta(
            store.get_arrays(update.delta),
            store.get_arrays(base),
            update.num_examples,
            update.metrics,
        )

    def _evaluate(self, said: Announcement) -> Outgoing:
        job, _ = self._job(said)
        result = self._done(job).result
        assert isinstance(result, Evaluation)
        return Measured(result.num_examples, result.metrics)

    def _job(self, said: Announcement) -> tuple[ClientJob, Ref]:
        """The job as this site's own plan has it, and its base model; the message only names them.

        Raises:
          _CannotDo: the plan has another job, or the model is not of its form.
        """
        plan, base = self._plan, said.base
        if plan is None or base is None:
            raise _CannotDo(Code.SITE_NOT_READY)
        if said.ask is Ask.TRAIN:
            jobs = plan.train_jobs(said.round, base, [self.name])
        else:
            jobs = plan.evaluate_jobs(said.round, base, said.split)
        for job in jobs:
            if job.key == said.job:
                base = self._fetched(base, plan)
                return replace(job, base=base, data=self._shelf.resolve(job.data.digest)), base
        raise _CannotDo(Code.OTHER_JOB)

    def _fetched(self, base: Ref, plan: RunPlan) -> Ref:
        """The base model in this site's store, once it is exactly of the plan's form."""
        store = self.site.store
        if store.holds(base):
            return base
        template = template_of(store.get_arrays(plan.initial.params))
        if base.size > most_bytes(template):
            raise _CannotDo(Code.BAD_MODEL)
        try:
            data = self.site.mailbox.read_blob(models(self.run), base)
        except Refusal as refusal:
            raise _CannotDo(Code.BLOB_MISSING) from refusal
        try:
            decode_exactly(data, template)
        except Refusal as refusal:
            raise _CannotDo(Code.BAD_MODEL) from refusal
        return store.put(data, "model")

    def _done(self, job: ClientJob) -> Done:
        outcome = self.work(job, self.site.store, self.site.cache)
        if not isinstance(outcome, Done):
            LOG.error("%s: round %s: %s", self.run, job.round, getattr(outcome, "reason", ""))
            raise _CannotDo(Code.WORK_FAILED)
        return outcome

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

    def _asks_for(self, said: Announcement) -> Request:
        assert self._request is not None, said.ask  # read in _asked
        return self._request

    @cached_property
    def _dataset(self) -> Dataset:
        settings = self.site.settings
        return settings.data.load(Path(settings.folder) if settings.folder else None)

    def _is_paused(self) -> bool:
        try:
            return read_status(self.site.status_file).state != "running"
        except StatusError as error:
            LOG.error("%s", error)
            return True

    def _not_theirs(self, refusal: Refusal) -> None:
        LOG.warning("%s: an announcement was refused (%s).", self.run, refusal)


class _CannotDo(RuntimeError):
    """Work that cannot be done, by its code."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.value)
        self.code = code


_WORK: Mapping[Ask, Callable[[Session, Announcement], Outgoing]] = {
    Ask.AUDIT: Session._describe,
    Ask.STATISTICS: Session._count,
    Ask.PREPARE: Session._prepare,
    Ask.TRAIN: Session._train,
    Ask.EVALUATE: Session._evaluate,
}


def attend(sessions: Sequence[Session], until: Callable[[], bool] = lambda: False) -> None:
    """Serves sessions in turn, until all are closed or ``until`` says so."""
    pause = FIRST_PAUSE
    while (left := [one for one in sessions if not one.closed]) and not until():
        if any([one.step() for one in left]):
            pause = FIRST_PAUSE
            continue
        time.sleep(pause * random.uniform(0.8, 1.2))
        pause = min(LONGEST_PAUSE, pause * GROWTH)
