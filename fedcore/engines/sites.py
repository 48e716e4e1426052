"""Client jobs at sites: each announced to the site that has the client's data, each answer admitted
through the trust boundary."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from fedcore import memo
from fedcore.execute import remembered
from fedcore.jobs import ClientJob, JobKind
from fedcore.outcomes import Absent, ClientOutcome, Done, Refused
from fedcore.refs import Ref
from fedcore.sites.admit import Admitted, Expected, admit
from fedcore.sites.announcement import Announcement, Ask
from fedcore.sites.correspondence import Correspondence
from fedcore.sites.mailbox import models
from fedcore.sites.refusal import Reason, Refusal
from fedcore.sites.wire_tensors import Template, template_of
from fedcore.store import Store

# Looking for answers: often while they come, seldom while sites train.
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.02, 0.5, 1.5


@dataclass(frozen=True)
class Patience:
    """How long a round waits.

    Attributes:
      deadline: seconds from the announcement until a site that said nothing is absent.
      quorum: once so many have answered, the others have only ``grace`` left.
      grace: seconds.
    """

    deadline: float
    quorum: int
    grace: float


@dataclass
class SitesEngine:
    """Jobs by correspondence, as :class:`fedcore.engines.engine.ClientEngine`.

    Attributes:
      store: the coordinator's; admitted updates and the memo are there.
      sites: client id -> lane to the site of that name.
      splits: site -> data name -> split, to say which data an evaluation is about.
      patience: of a round.
      most_norm: bound on an update's Euclidean norm.
      quarantine: a site whose answers were refused so many times in a row is not asked any more.
      told: called with site, reason and job for each refusal at the boundary.
    """

    store: Store
    sites: Mapping[str, Correspondence]
    splits: Mapping[str, Mapping[str, str]]
    patience: Patience
    most_norm: float = 1e6
    quarantine: int = 3
    told: Callable[[str, Refusal, ClientJob], None] = lambda site, refusal, job: None
    _posted: set[str] = field(default_factory=set)
    _refused: dict[str, int] = field(default_factory=dict)

    def run(self, jobs: Iterable[ClientJob]) -> Iterator[tuple[ClientJob, ClientOutcome]]:
        """(job, outcome) in completion order; who does not answer in time is absent."""
        waiting: list[ClientJob] = []
        answered = 0
        for job in jobs:
            if done := remembered(job, self.store):
                answered += 1
                yield job, done
            elif (why := self._why_not(job.client)) is not None:
                yield job, why(job)
            else:
                self._announce(job)
                waiting.append(job)
        ends = time.monotonic() + self.patience.deadline
        pause = FIRST_PAUSE
        while waiting:
            heard = [(job, outcome) for job in waiting if (outcome := self._hear(job))]
            for job, outcome in heard:
                waiting.remove(job)
                answered += isinstance(outcome, Done)
                yield job, outcome
            now = time.monotonic()
            if answered >= self.patience.quorum and heard:
                ends = min(ends, now + self.patience.grace)
            if now >= ends:
                break
            pause = FIRST_PAUSE if heard else min(LONGEST_PAUSE, pause * GROWTH)
            if waiting:
                time.sleep(min(pause * random.uniform(0.8, 1.2), max(0.0, ends - now)))
        for job in waiting:
            yield job, Absent(job.client, job.key, "no answer by the deadline")

    def _why_not(self, client: str) -> Callable[[ClientJob], ClientOutcome] | None:
        """Why a client is not asked, as what becomes of its job."""
        if client not in self.sites:
            return lambda job: Absent(client, job.key, "not invited, or it has not joined")
        if self.sites[client].site.status == "revoked":
            return lambda job: Refused(client, job.key, Reason.REVOKED)
        if self._refused.get(client, 0) >= self.quarantine:
            return lambda job: Refused(client, job.key, "quarantined")
        return None

    def _announce(self, job: ClientJob) -> None:
        lane = self.sites[job.client]
        if job.base.digest not in self._posted:
            lane.mailbox.post_blob(models(lane.run), self.store.get(job.base), "model")
            self._posted.add(job.base.digest)
        evaluates = job.kind is JobKind.EVALUATE
        split = self.splits[job.client][job.data.digest] if evaluates else ""
        ask = Ask.EVALUATE if evaluates else Ask.TRAIN
        base = Ref(job.base.digest, job.base.size, "model")
        lane.announce(Announcement(ask, job.round, job.key, base, split))

    def _hear(self, job: ClientJob) -> ClientOutcome | None:
        lane = self.sites[job.client]
        try:
            data = lane.answer(job.key)
            if data is None:
                return None
            expected = Expected(
                lane.run, job, self._template(job), lane.site.most_examples, self.most_norm
            )
            admitted = admit(data, lane.fetch, expected, lane.site.identity, lane.coordinator)
        except Refusal as refusal:
            if refusal.reason is Reason.MISSING_BLOB:
                return None  # on a store without order the envelope may be there first
            self._refused[job.client] = self._refused.get(job.client, 0) + 1
            self.told(job.client, refusal, job)
            return Refused(job.client, job.key, refusal.reason)
        self._refused.pop(job.client, None)
        self._keep(admitted)
        return admitted.outcome

    def _keep(self, admitted: Admitted) -> None:
        if admitted.delta:
            self.store.put(admitted.delta, "delta")
        if isinstance(admitted.outcome, Done):
            memo.remember(self.store, admitted.outcome)

    def _template(self, job: ClientJob) -> Template:
        if job.kind is JobKind.EVALUATE:
            return {}
        return template_of(self.store.get_arrays(job.base))
