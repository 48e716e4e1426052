"""Client jobs one after another in this process: tests, notebooks, fedcore alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fedcore.execute import execute
from fedcore.jobs import ClientJob
from fedcore.outcomes import ClientOutcome
from fedcore.privacy.owner import Owner
from fedcore.store import Store


@dataclass(frozen=True)
class InProcessEngine:
    """The reference engine.

    Attributes:
      store: where blobs and the memo are.
      cache: folder of cached features of frozen backbones.
      owner: of all clients' data, where their training is private.
    """

    store: Store
    cache: Path
    owner: Owner | None = None

    def run(self, jobs: Iterable[ClientJob]) -> Iterator[tuple[ClientJob, ClientOutcome]]:
        """As :class:`fedcore.engines.engine.ClientEngine`."""
        for job in jobs:
            yield job, execute(job, self.store, self.cache, self.owner)
