"""What every engine does: takes jobs, gives outcomes in completion order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from fedcore.jobs import ClientJob
from fedcore.outcomes import ClientOutcome


class ClientEngine(Protocol):
    """Runs client jobs somewhere. Above it everything is the same code."""

    def run(self, jobs: Iterable[ClientJob]) -> Iterator[tuple[ClientJob, ClientOutcome]]:
        """(job, outcome) in completion order; a client that fails is an outcome, not an error."""
        ...
