"""Client jobs as Prefect tasks: the engine that the operator watches."""

from __future__ import annotations

import atexit
import math
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from fedcore.aggregation import GROUP
from fedcore.engines.pooled import PooledEngine
from fedcore.execute import execute, remembered
from fedcore.jobs import ClientJob, JobKind
from fedcore.outcomes import (
    ClientOutcome,
    Done,
    Failed,
    Refused,
    outcome_from_json,
    outcome_to_json,
)
from fedcore.privacy.owner import Owner
from fedcore.store import Store
from fedcore.training.pool import WorkerPool

# A task of many small jobs: long enough to hide what a task costs, short enough to wait for.
TASK_SECONDS = 2.0

_ONE_AT_A_TIME = threading.Lock()


class ClientFailed(RuntimeError):
    """A client's job did not succeed; the message is the reason."""


class ClientRefused(ClientFailed):
    """A client said no, e.g. because its data would tell too much."""


@dataclass(frozen=True)
class Site:
    """Where a task does its jobs: everything but the jobs themselves, as JSON values.

    Attributes:
      store_url: of the content-addressed store.
      cache: folder of cached features.
      workers: processes on the machine where the task runs; 0 works in the task's own process.
      privacy: folder of the data owners' secret and ledger.
    """

    store_url: str
    cache: str
    workers: int
    privacy: str

    def do(self, job: ClientJob) -> ClientOutcome:
        """One job, waited for."""
        owner, cache = Owner(Path(self.privacy)), Path(self.cache)
        if self.workers == 0:
            with _ONE_AT_A_TIME:
                return execute(job, Store(self.store_url), cache, owner)
        return PooledEngine(self.store_url, cache, shared_pool(self.workers), owner).do(job)


def shared_pool(workers: int) -> WorkerPool:
    """The worker processes of this process, started once and ended with it."""
    with _ONE_AT_A_TIME:
        return _pool(workers)


@cache
def _pool(workers: int) -> WorkerPool:
    pool = WorkerPool(workers)
    atexit.register(pool.close)
    return pool


@task(name="client", task_run_name="{label}", cache_policy=NO_CACHE, result_serializer="json")
def run_client(label: str, job: dict[str, Any], site: Site) -> dict[str, Any]:
    """One client's job; fails with the client's own reason."""
    outcome = site.do(ClientJob.from_json(job))
    if isinstance(outcome, Refused):
        raise ClientRefused(outcome.reason)
    if not isinstance(outcome, Done):
        raise ClientFailed(outcome.reason)
    return outcome_to_json(outcome)


@task(name="clients", task_run_name="{label}", cache_policy=NO_CACHE, result_serializer="json")
def run_clients(label: str, jobs: list[dict[str, Any]], site: Site) -> list[dict[str, Any]]:
    """Many jobs in one task: a shard of a large cohort, or all evaluations of a round."""
    with ThreadPoolExecutor(max(1, site.workers)) as threads:
        outcomes = threads.map(site.do, map(ClientJob.from_json, jobs))
        return [outcome_to_json(outcome) for outcome in outcomes]


@dataclass(frozen=True)
class MappedEngine:
    """Client jobs mapped to Prefect tasks, as :class:`fedcore.engines.engine.ClientEngine`.

    The first 64 clients of a round train as one task each, named after them; the rest as one task
    per some seconds of work, in canonical order. Evaluations are one task. What the memo answers
    needs no task: a run that goes on shows the clients that are still to come. Jobs are taken when
    a worker process is free, so that a pause or a cancellation waits for those under way only.
    """

    site: Site

    def run(self, jobs: Iterable[ClientJob]) -> Iterator[tuple[ClientJob, ClientOutcome]]:
        """(job, outcome) in completion order.

        A task that fails for its client's reason is a failed client. What else makes a task fail
        (a full disk, a cancelled or crashed task) is raised and fails the run.
        """
        store, waiting, groups = Store(self.site.store_url), iter(jobs), _Groups()
        running: dict[PrefectFuture[Any], list[ClientJob]] = {}
        finished: SimpleQueue[PrefectFuture[Any]] = SimpleQueue()
        has_more = True
        while has_more or running:
            while has_more and len(running) < max(1, self.site.workers):
                group: list[ClientJob] = []
                for job in waiting:
                    if done := remembered(job, store):
                        yield job, done
                        continue
                    group.append(job)
                    if len(group) >= groups.size(job):
                        break
                else:
                    has_more = False
                if group:
                    groups.taken += len(group)
                    future = _submit(group, self.site)
                    running[future] = group
                    future.add_done_callback(finished.put)
            if running:
                future = finished.get()
                for job, outcome in _answers(future, running.pop(future)):
                    groups.learn(outcome)
                    yield job, outcome


@dataclass
class _Groups:
    """How many jobs one task takes: beyond the first 64, as many as last about TASK_SECONDS."""

    taken: int = 0
    seen: deque[float] = field(default_factory=lambda: deque(maxlen=GROUP))

    def size(self, job: ClientJob) -> float:
        """Of the task that is to take this job."""
        if job.kind is JobKind.EVALUATE:
            return math.inf
        if self.taken < GROUP or not self.seen:
            return 1
        seconds = sum(self.seen) / len(self.seen)
        return min(GROUP, max(1, TASK_SECONDS // max(seconds, TASK_SECONDS / GROUP)))

    def learn(self, outcome: ClientOutcome) -> None:
        """Note how long a job took."""
        if isinstance(outcome, Done):
            self.seen.append(outcome.seconds)


def _submit(group: list[ClientJob], site: Site) -> PrefectFuture[Any]:
    first, last = group[0], group[-1]
    if first.keep_scores:
        label = "final/evaluate"
    elif first.kind is JobKind.EVALUATE:
        label = f"round-{first.round}/evaluate"
    elif len(group) == 1:
        label = f"round-{first.round}/client-{first.client.removeprefix('client-')}"
        return run_client.submit(label, first.to_json(), site)
    else:
        label = f"round-{first.round}/clients-{first.client}-to-{last.client}"
    return run_clients.submit(label, [job.to_json() for job in group], site)


def _answers(
    future: PrefectFuture[Any], group: list[ClientJob]
) -> Iterator[tuple[ClientJob, ClientOutcome]]:
    future.wait()
    result = future.result(raise_on_failure=False)
    if isinstance(result, ClientFailed):
        (job,) = group
        how = Refused if isinstance(result, ClientRefused) else Failed
        yield job, how(job.client, job.key, str(result))
        return
    if not future.state.is_completed():
        future.result()  # raises
    for job, value in zip(group, result if isinstance(result, list) else [result], strict=True):
        yield job, outcome_from_json(value)
