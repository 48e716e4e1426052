"""Client jobs in persistent worker processes of this machine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from fedcore.execute import execute_json, remembered
from fedcore.jobs import ClientJob
from fedcore.outcomes import ClientOutcome, Failed, outcome_from_json
from fedcore.privacy.owner import Owner
from fedcore.store import Store
from fedcore.training.pool import WorkerDied, WorkerPool


@dataclass(frozen=True)
class PooledEngine:
    """Jobs by a :class:`fedcore.training.pool.WorkerPool`; the caller opens and closes the pool.

    Attributes:
      store_url: where blobs and the memo are, as the workers see it.
      cache: folder of cached features of frozen backbones.
      owner: of all clients' data, where their training is private.
    """

    store_url: str
    cache: Path
    pool: WorkerPool
    owner: Owner | None = None

    def do(self, job: ClientJob) -> ClientOutcome:
        """One job, waited for; a worker that dies twice on it is a failed client."""
        if (done := remembered(job, Store(self.store_url))) is not None:
            return done  # no worker has to start for it
        payload = {
            "job": job.to_json(),
            "store": self.store_url,
            "cache": str(self.cache),
            "owner": None if self.owner is None else self.owner.to_json(),
        }
        try:
            return outcome_from_json(json.loads(self.pool.run(execute_json, json.dumps(payload))))
        except WorkerDied as error:
            return Failed(job.client, job.key, str(error))

    def run(self, jobs: Iterable[ClientJob]) -> Iterator[tuple[ClientJob, ClientOutcome]]:
        """As :class:`fedcore.engines.engine.ClientEngine`."""
        threads = ThreadPoolExecutor(self.pool.workers)
        try:
            waiting = {threads.submit(self.do, job): job for job in jobs}
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        finally:
            threads.shutdown(cancel_futures=True)
