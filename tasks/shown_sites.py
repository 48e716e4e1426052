"""What sites do in a round, as tasks of the training run: its page shows each site by name.

The work itself is a task of the site's own session; a task here lasts from the announcement to what
becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Timer
from typing import Any

from prefect import State, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Cancelled, Completed, Failed

from fedcore.aggregation import GROUP
from fedcore.engines.sites import SitesEngine
from fedcore.jobs import ClientJob, JobKind
from fedcore.outcomes import Absent, ClientOutcome, Done
from fedcore.sites.codes import in_words

# A task costs more than an answer: it ends when nobody has answered for so long, not before the
# answers of other sites are read and the next round is announced.
LULL_SECONDS = 0.5

Outcomes = dict[tuple[str, str], ClientOutcome]
"""By client and job key."""


@task(name="site", task_run_name="{label}", cache_policy=NO_CACHE, persist_result=False)
def await_sites(label: str, asked: int, heard: Callable[[], Outcomes]) -> State[Any]:
    """Ends with what became of a site's job, or of the same job at all sites."""
    outcomes = heard()
    if len(outcomes) < asked:
        return Cancelled(message="The run stopped before.")
    missing = [one for one in outcomes.values() if not isinstance(one, Done)]
    if asked > 1:
        return Completed(message=f"{asked - len(missing)} of {asked} answers")
    if not missing:
        return Completed()
    (outcome,) = missing
    why = outcome.reason if isinstance(outcome, Absent) else in_words(outcome.reason)
    return Failed(name=type(outcome).__name__, message=why)


@dataclass
class _Group:
    """Jobs of one task, and what is heard of them."""

    label: str
    jobs: set[tuple[str, str]]
    outcomes: Outcomes = field(default_factory=dict)
    heard: Future[Outcomes] = field(default_factory=Future)

    def hear(self, job: ClientJob, outcome: ClientOutcome) -> None:
        if (job.client, job.key) in self.jobs:
            self.outcomes[job.client, job.key] = outcome

    def end(self, *, is_over: bool = False) -> None:
        if (is_over or len(self.outcomes) == len(self.jobs)) and not self.heard.done():
            self.heard.set_result(self.outcomes)


@dataclass
class ShownSites:
    """A :class:`fedcore.engines.sites.SitesEngine` whose jobs are seen, one task per site and
    round for the first 64, and one per round for all evaluations. What the memo answers needs none.
    """

    engine: SitesEngine
    _tasks: list[PrefectConcurrentFuture[Any]] = field(default_factory=list)

    def run(self, jobs: Iterable[ClientJob]) -> Iterator[tuple[ClientJob, ClientOutcome]]:
        """As the engine's."""
        groups: list[_Group] = []

        def show(asked: Sequence[ClientJob]) -> None:
            self._tasks = [one for one in self._tasks if not one.wrapped_future.done()]
            groups.extend(_groups(asked))
            self._tasks += [
                await_sites.submit(one.label, len(one.jobs), one.heard.result) for one in groups
            ]

        def end(is_over: bool = False) -> Timer:
            timer = Timer(LULL_SECONDS, lambda: [one.end(is_over=is_over) for one in groups])
            timer.start()
            return timer

        self.engine.asked = show
        lull = end()
        try:
            for job, outcome in self.engine.run(jobs):
                for group in groups:
                    group.hear(job, outcome)
                lull.cancel()
                lull = end()
                yield job, outcome
        finally:
            lull.cancel()
            end(is_over=True)


def _groups(asked: Sequence[ClientJob]) -> Iterator[_Group]:
    evaluations = [job for job in asked if job.kind is JobKind.EVALUATE]
    for job in [job for job in asked if job.kind is not JobKind.EVALUATE][:GROUP]:
        yield _Group(f"round-{job.round}/{job.client}", {(job.client, job.key)})
    if evaluations:
        first = evaluations[0]
        when = "final" if first.keep_scores else f"round-{first.round}"
        yield _Group(f"{when}/evaluate", {(job.client, job.key) for job in evaluations})
