"""Client jobs as Prefect tasks: the engine that the operator watches."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed

from fedcore.aggregation import GROUP
from fedcore.engines.pooled import PooledEngine
from fedcore.execute import execute
from fedcore.jobs import ClientJob, JobKind
from fedcore.outcomes import (
    ClientOutcome,
    Done,
    Failed,
    outcome_from_json,
    outcome_to_json,
)
from fedcore.store import Store
from fedcore.training.pool import WorkerPool

_ONE_AT_A_TIME = threading.Lock()


class ClientFailed(RuntimeError):
    """A client's job did not succeed; the message is the reason."""


@dataclass(frozen=True)
class Site:
    """Where a task does its jobs: everything but the jobs themselves, as JSON values.

    Attributes:
      store_url: of the content-addressed store.
      cache: folder of cached features.
      workers: processes on the machine where the task runs; 0 works in the task's own process.
    """

    store_url: str
    cache: str
    workers: int

    def do(self, job: ClientJob) -> ClientOutcome:
        """One job, waited for."""
        if self.workers == 0:
            with _ONE_AT_A_TIME:
                return execute(job, Store(self.store_url), Path(self.cache))
        return PooledEngine(self.store_url, Path(self.cache), shared_pool(self.workers)).do(job)


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

    Up to 64 clients train as one task each, named after them; beyond, as one task per group of 64
    in canonical order. Evaluations are one task.
    """

    site: Site

    def run(self, jobs: Iterable[ClientJob]) -> Iterator[tuple[ClientJob, ClientOutcome]]:
        """(job, outcome) in completion order.

        A task that fails for its client's reason is a failed client. What else makes a task fail
        (a full disk, a cancelled or crashed task) is raised and fails the run.
        """
        waiting: dict[PrefectFuture[Any], list[ClientJob]] = {}
        for group in _groups(list(jobs)):
            future = _submit(group, self.site)
            waiting[future] = group
        for future in as_completed(list(waiting)):
            yield from _answers(future, waiting[future])


def _groups(jobs: list[ClientJob]) -> list[list[ClientJob]]:
    if not jobs:
        return []
    if jobs[0].kind is JobKind.EVALUATE:
        return [jobs]
    size = 1 if len(jobs) <= GROUP else GROUP
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]


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
        yield job, Failed(job.client, job.key, str(result))
        return
    if not future.state.is_completed():
        future.result()  # raises
    for job, value in zip(group, result if isinstance(result, list) else [result], strict=True):
        yield job, outcome_from_json(value)
