"""A site's work on its own rows; whether anything of it may leave is the session's business."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from fedcore.adapters.server import adapter_round
from fedcore.assignment import Assignment
from fedcore.data.dataset import Dataset
from fedcore.execute import execute
from fedcore.federation import Federation
from fedcore.jobs import ClientJob
from fedcore.outcomes import ClientOutcome, ClientUpdate, Done, Evaluation, Refused
from fedcore.plan import RunPlan, assemble
from fedcore.privacy.owner import Owner
from fedcore.refs import Ref
from fedcore.sites.announcement import Announcement, Ask
from fedcore.sites.base_models import BaseModels
from fedcore.sites.codes import Code
from fedcore.sites.description import describe
from fedcore.sites.folder import SiteFolder
from fedcore.sites.holding import Shelf, prepare_data
from fedcore.sites.inquiry import Inquiry, Preparation
from fedcore.sites.local_rows import local_rows
from fedcore.sites.local_statistics import local_statistics
from fedcore.sites.mailbox import models
from fedcore.sites.model_form import ModelForm, model_form
from fedcore.sites.outgoing import Delta, Excuse, Facts, Measured, Outgoing
from fedcore.sites.refusal import Refusal
from fedcore.sites.request import Request
from fedcore.sites.wanted import StatisticsInquiry
from fedcore.sites.wire_tensors import most_bytes
from fedcore.store import AlreadyExists, Store

LOG = logging.getLogger("fedloom.site")

Work = Callable[[ClientJob, Store, Path, Owner], ClientOutcome]
"""Does a job: :func:`fedcore.execute.execute`, here or in a process of its own."""


class CannotDo(RuntimeError):
    """Work that cannot be done, by its code."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.value)
        self.code = code


@dataclass
class Workbench:
    """Everything that a run asks a site for, done.

    Attributes:
      site: the folder.
      name: of the site, which is its client id.
      run: id of the run.
      work: does its jobs.
    """

    site: SiteFolder
    name: str
    run: str
    work: Work = execute
    _plan: RunPlan | None = field(default=None, init=False)
    _form: ModelForm = field(default_factory=lambda: ModelForm({}), init=False)

    def __post_init__(self) -> None:
        self._shelf = Shelf(self.site.store)
        self._models = BaseModels(self.site, self.run)

    def do(self, said: Announcement, request: Request) -> Outgoing:
        """What was asked for, worked out; nothing of it has left yet.

        Raises:
          CannotDo: it is not of this run's plan, or the plan was not prepared here.
          Exception: whatever loading the data and training raise.
        """
        return _WORK[said.ask](self, said, request)

    def end(self) -> None:
        """The run is over: what could be fetched again is discarded."""
        with suppress(OSError):  # a disk that is full now is no reason not to end
            self._models.forget()

    def _describe(self, said: Announcement, request: Request) -> Outgoing:
        inquiry = request.about
        if not isinstance(inquiry, Inquiry):
            raise CannotDo(Code.BAD_REQUEST)
        return describe(self._dataset, self.name, inquiry, secret=self.site.secret)

    def _count(self, said: Announcement, request: Request) -> Outgoing:
        about = request.about
        if not isinstance(about, StatisticsInquiry):
            raise CannotDo(Code.BAD_REQUEST)
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

    def _prepare(self, said: Announcement, request: Request) -> Outgoing:
        if not isinstance(request.about, Preparation):
            raise CannotDo(Code.BAD_REQUEST)
        dataset = self._dataset
        held = prepare_data(
            dataset, self.name, request.about, secret=self.site.secret, shelf=self._shelf
        )
        self._plan = assemble(
            request.config,
            self.site.store,
            task=dataset.task,
            features=dataset.features,
            shape=dataset.splits["train"].inputs.shape[1:],
            federation=Federation({self.name: held}, {}, {}),
            class_weights=request.class_weights,
            scaling={},
            about={},
        )
        initial = self._plan.initial.params
        adapters = adapter_round(request.config, 1)
        self._form = model_form(self.site.store.get_arrays(initial), adapters)
        self._models.use(initial)
        return Facts()

    def _train(self, said: Announcement, request: Request) -> Outgoing:
        job, base = self._job(said)
        outcome = self._done(job)
        update = outcome.result
        assert isinstance(update, ClientUpdate)
        store = self.site.store
        return Delta(
            store.get_arrays(update.delta),
            Assignment.from_json(job.settings["assignment"]).expected(store.get_arrays(base)),
            update.num_examples,
            update.metrics,
        )

    def _evaluate(self, said: Announcement, request: Request) -> Outgoing:
        job, _ = self._job(said)
        result = self._done(job).result
        assert isinstance(result, Evaluation)
        return Measured(result.num_examples, result.metrics)

    def _job(self, said: Announcement) -> tuple[ClientJob, Ref]:
        """The job as this site's own plan has it, and its base model; the message only names them.

        Raises:
          CannotDo: the plan has another job, or the model is not of its form.
        """
        plan, base = self._plan, said.base
        if plan is None or base is None:
            raise CannotDo(Code.SITE_NOT_READY)
        if said.ask is Ask.TRAIN:
            jobs = plan.train_jobs(said.round, base, [self.name])
        else:
            jobs = plan.evaluate_jobs(said.round, base, said.split)
        for job in jobs:
            if job.key == said.job:
                base = self._fetched(base)
                self._models.use(base)
                return replace(job, base=base, data=self._shelf.resolve(job.data.digest)), base
        raise CannotDo(Code.OTHER_JOB)

    def _fetched(self, base: Ref) -> Ref:
        """The base model in this site's store, once it is exactly of the plan's form."""
        store = self.site.store
        if store.holds(base):
            return base
        if base.size > most_bytes(self._form.largest):
            raise CannotDo(Code.BAD_MODEL)
        try:
            data = self.site.mailbox.read_blob(models(self.run), base)
        except Refusal as refusal:
            raise CannotDo(Code.BLOB_MISSING) from refusal
        try:
            self._form.decoded(data)
        except Refusal as refusal:
            raise CannotDo(Code.BAD_MODEL) from refusal
        return store.put(data, "model")

    def _done(self, job: ClientJob) -> Done:
        outcome = self.work(job, self.site.store, self.site.cache, self.site.owner)
        if isinstance(outcome, Refused):
            LOG.warning("%s: round %s: %s", self.run, job.round, outcome.reason)
            raise CannotDo(Code.BUDGET_SPENT)
        if not isinstance(outcome, Done):
            LOG.error("%s: round %s: %s", self.run, job.round, getattr(outcome, "reason", ""))
            raise CannotDo(Code.WORK_FAILED)
        return outcome

    @cached_property
    def _dataset(self) -> Dataset:
        settings = self.site.settings
        return settings.data.load(Path(settings.folder) if settings.folder else None)


_WORK: Mapping[Ask, Callable[[Workbench, Announcement, Request], Outgoing]] = {
    Ask.AUDIT: Workbench._describe,
    Ask.STATISTICS: Workbench._count,
    Ask.PREPARE: Workbench._prepare,
    Ask.TRAIN: Workbench._train,
    Ask.EVALUATE: Workbench._evaluate,
}
