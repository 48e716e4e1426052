"""Client jobs at sites: each announced to the site that has the client's data, each answer admitted
through the trust boundary."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal

from fedcore import memo
from fedcore.assignment import Assignment
from fedcore.digests import canonical_json
from fedcore.execute import remembered
from fedcore.jobs import ClientJob, JobKind
from fedcore.outcomes import Absent, ClientOutcome, ClientUpdate, Done, Failed, Refused
from fedcore.refs import Ref
from fedcore.report.words import duration, some
from fedcore.sites.admit import Admitted, Expected, admit
from fedcore.sites.announcement import Announcement, Ask
from fedcore.sites.correspondence import Correspondence
from fedcore.sites.mailbox import models
from fedcore.sites.refusal import Reason, Refusal
from fedcore.sites.wire_tensors import Template, template_of
from fedcore.store import Store

# Looking for answers: often while they come, seldom while sites train.
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.05, 0.5, 1.5
FIRST_WORD = 15.0  # of who is waited for; each further one after twice the time
AT_ONCE = 8  # requests to the mailbox; of updates one is in memory at a time
KEPT_LATE = 3  # rounds of a site that are waited for after their time
KEPT_MODELS = 3  # that of the round, the one before for who is late, the one after for evaluation


@dataclass(frozen=True)
class Patience:
    """How long is waited for what was announced, in seconds from the announcement.

    Attributes:
      deadline: a site that said nothing until then is absent, if ``enough`` have answered.
      limit: until then is waited when fewer have, and those who are left would make it enough.
      enough: answers without which there is no round.
      quorum: once so many have answered the others have only ``grace`` left; 0: all.
      grace: seconds, also for a site that has not answered what was asked before.
      retries: how often a site that could not do a job is asked for the same again.
    """

    deadline: float
    limit: float
    enough: int
    quorum: int = 0
    grace: float = 30.0
    retries: int = 1


@dataclass
class SitesEngine:
    """Jobs by correspondence, as :class:`fedcore.engines.engine.ClientEngine`.

    Attributes:
      store: the coordinator's; admitted updates and the memo are there.
      sites: client id -> lane to the site of that name.
      splits: site -> data name -> split, to say which data an evaluation is about.
      patience: of a round.
      most_norm: bound on an update's Euclidean norm.
      late: an update after its round is refused, or taken by the round that waits when it comes.
      quarantine: a site whose answers were refused so many times in a row is not asked any more.
      refused: called with site, refusal and job for each refusal at the boundary.
      asked: called with the jobs that have been announced to their sites.
      say: tells the operator what is waited for.
    """

    store: Store
    sites: Mapping[str, Correspondence]
    splits: Mapping[str, Mapping[str, str]]
    patience: Patience
    most_norm: float = 1e6
    late: Literal["refuse", "stale"] = "refuse"
    quarantine: int = 3
    refused: Callable[[str, Refusal, ClientJob], None] = lambda site, refusal, job: None
    asked: Callable[[Sequence[ClientJob]], None] = lambda jobs: None
    say: Callable[[str], None] = lambda message: None
    _models: list[str] = field(default_factory=list)
    _refused: dict[str, int] = field(default_factory=dict)
    _attempts: dict[str, int] = field(default_factory=dict)
    _silent: set[str] = field(default_factory=set)
    _unanswered: dict[str, list[ClientJob]] = field(default_factory=dict)
    _came_late: set[str] = field(default_factory=set)
    _litter: list[str] = field(default_factory=list)
    _templates: dict[tuple[str, str], Template] = field(default_factory=dict)

    def run(self, jobs: Iterable[ClientJob]) -> Iterator[tuple[ClientJob, ClientOutcome]]:
        """(job, outcome) in completion order; who does not answer in time is absent."""
        waiting, known = list[ClientJob](), list[tuple[ClientJob, ClientOutcome]]()
        self._came_late.clear()
        for job in jobs:
            if before := remembered(job, self.store):
                known.append((job, before))
            elif (why := self._why_not(job.client)) is not None:
                known.append((job, why(job)))
            else:
                waiting.append(job)
        with ThreadPoolExecutor(AT_ONCE, "mailbox") as pool:
            self._announce_all(waiting, pool)
            self.asked(waiting)
            yield from known
            yield from self._answers(waiting, sum(isinstance(one, Done) for _, one in known), pool)

    def _answers(
        self, waiting: list[ClientJob], done: int, pool: Executor
    ) -> Iterator[tuple[ClientJob, ClientOutcome]]:
        started, last, pause, word = time.monotonic(), 0.0, FIRST_PAUSE, FIRST_WORD
        while waiting:
            heard = False
            for job, answer in zip(list(waiting), pool.map(self._look, waiting), strict=True):
                if (outcome := self._hear(job, answer) or self._hear_late(job)) is None:
                    continue
                heard = True
                waiting.remove(job)
                done += isinstance(outcome, Done)
                yield job, outcome
            now = time.monotonic() - started
            last = now if heard else last
            left = self._until(waiting, done, last) - now
            if left <= 0:
                break
            if waiting and now >= word:
                word = 2 * now
                self.say(self._still(waiting, done, left))
            pause = FIRST_PAUSE if heard else min(LONGEST_PAUSE, pause * GROWTH)
            if waiting:
                time.sleep(min(pause * random.uniform(0.8, 1.2), left))
        for job in waiting:
            self._silent.add(job.client)
            self._remember(job)
            if job.client in self._came_late:
                yield job, Refused(job.client, job.key, Reason.LATE)
            else:
                yield job, Absent(job.client, job.key, "no answer by the deadline")

    def _until(self, waiting: list[ClientJob], done: int, last: float) -> float:
        """Seconds from the announcement until which is waited; ``last``: when somebody answered."""
        patience = self.patience
        training = any(job.kind is JobKind.TRAIN for job in waiting)
        if training and done < patience.enough <= done + len(waiting):
            return patience.limit
        is_quorum = patience.quorum and done >= patience.quorum
        if is_quorum or all(job.client in self._silent for job in waiting):
            return min(patience.deadline, last + patience.grace)
        return patience.deadline

    def _still(self, waiting: list[ClientJob], done: int, left: float) -> str:
        needed = self.patience.enough
        return (
            f"round {waiting[0].round}: {done} sites have answered"
            f"{f' and {needed} are needed' if done < needed else ''}; waiting for "
            f"{some(job.client for job in waiting)}, {duration(left)} at most"
        )

    def _why_not(self, client: str) -> Callable[[ClientJob], ClientOutcome] | None:
        """Why a client is not asked, as what becomes of its job."""
        if client not in self.sites:
            return lambda job: Absent(client, job.key, "not invited, or it has not joined")
        if self.sites[client].site.status == "revoked":
            return lambda job: Refused(client, job.key, Reason.REVOKED)
        if self._refused.get(client, 0) >= self.quarantine:
            return lambda job: Refused(client, job.key, "quarantined")
        return None

    def _announce_all(self, jobs: Sequence[ClientJob], pool: Executor) -> None:
        """Announces jobs, those of one site in their order; then cleans up, while sites work."""
        of_site: dict[str, list[ClientJob]] = {}
        for job in jobs:
            self._leave_model(self.sites[job.client], job.base)
            of_site.setdefault(job.client, []).append(job)
        list(pool.map(self._announce, of_site.values()))
        if jobs:
            self.sites[jobs[0].client].mailbox.remove(*self._litter)
            self._litter.clear()

    def _announce(self, jobs: Sequence[ClientJob]) -> None:
        for job in jobs:
            self.sites[job.client].announce(self._announcement(job))

    def _announcement(self, job: ClientJob) -> Announcement:
        evaluates = job.kind is JobKind.EVALUATE
        split = self.splits[job.client][job.data.digest] if evaluates else ""
        ask = Ask.EVALUATE if evaluates else Ask.TRAIN
        base = Ref(job.base.digest, job.base.size, "model")
        attempt = self._attempts.get(job.key, 0)
        return Announcement(ask, job.round, job.key, base, split, attempt=attempt)

    def _leave_model(self, lane: Correspondence, base: Ref) -> None:
        """Leaves the model for all sites, and takes away those that nobody is to start from."""
        if base.digest in self._models:
            return
        lane.mailbox.post_blob(models(lane.run), self.store.get(base), "model")
        self._models.append(base.digest)
        while len(self._models) > KEPT_MODELS:
            self._litter.append(f"{models(lane.run)}/{self._models.pop(0)}")

    def _look(self, job: ClientJob) -> bytes | Refusal | None:
        """What lies where the answer to a job is to be."""
        try:
            return self.sites[job.client].answer(job.key, self._attempts.get(job.key, 0))
        except Refusal as refusal:
            return refusal

    def _hear(self, job: ClientJob, answer: bytes | Refusal | None) -> ClientOutcome | None:
        """What becomes of a job; None: nothing was said, or it is asked again."""
        heard, attempt = self._read(job, answer), self._attempts.get(job.key, 0)
        if heard is None or isinstance(heard, Refused):
            return heard
        if isinstance(heard.outcome, Failed) and attempt < self.patience.retries:
            self._attempts[job.key] = attempt + 1
            self._announce([job])
            return None
        self._keep(self.sites[job.client], heard)
        return heard.outcome

    def _hear_late(self, job: ClientJob) -> ClientOutcome | None:
        """What a site says to an earlier round while this one waits, as what becomes of the job.

        None: nothing, or nothing that counts.
        """
        lane, open_ = self.sites[job.client], self._unanswered.get(job.client, [])
        for earlier in [one for one in open_ if one.round < job.round]:
            if (heard := self._read(earlier, self._look(earlier))) is None:
                continue
            open_.remove(earlier)
            lane.take_out(earlier.key, self._attempts.get(earlier.key, 0))
            if isinstance(heard, Refused) or not isinstance(heard.outcome, Done):
                continue
            if self.late == "stale":
                self._keep(lane, heard)
                self._remember(job)  # which the site may answer yet
                return _stale(heard.outcome, job.round - earlier.round)
            if heard.sealed:
                self._litter.append(lane.place_of(heard.sealed))
            self._came_late.add(job.client)
            self.refused(job.client, Refusal(Reason.LATE, "round"), earlier)
            self.say(f"site {job.client}: its update of round {earlier.round} came late; refused")
        return None

    def _remember(self, job: ClientJob) -> None:
        if job.kind is JobKind.TRAIN:
            open_ = self._unanswered.setdefault(job.client, [])
            open_[:] = [*open_, job][-KEPT_LATE:]

    def _read(self, job: ClientJob, answer: bytes | Refusal | None) -> Admitted | Refused | None:
        """The answer to a job through the boundary; None: there is none yet."""
        lane, attempt = self.sites[job.client], self._attempts.get(job.key, 0)
        if answer is None:
            return None
        try:
            if isinstance(answer, Refusal):
                raise answer
            expected = Expected(
                lane.run,
                job,
                self._template(job),
                lane.site.most_examples,
                self.most_norm,
                attempt,
            )
            admitted = admit(answer, lane.fetch, expected, lane.site.identity, lane.coordinator)
        except Refusal as refusal:
            if refusal.reason is Reason.MISSING_BLOB:
                return None  # on a store without order the envelope may be there first
            self._refused[job.client] = self._refused.get(job.client, 0) + 1
            self.refused(job.client, refusal, job)
            return Refused(job.client, job.key, refusal.reason)
        self._silent.discard(job.client)
        self._refused.pop(job.client, None)
        return admitted

    def _keep(self, lane: Correspondence, admitted: Admitted) -> None:
        if admitted.delta:
            self.store.put(admitted.delta, "delta")
        if isinstance(admitted.outcome, Done):
            memo.remember(self.store, admitted.outcome)
        if admitted.sealed:
            self._litter.append(lane.place_of(admitted.sealed))

    def _template(self, job: ClientJob) -> Template:
        if job.kind is JobKind.EVALUATE:
            return {}
        asked = Assignment.from_json(job.settings["assignment"])
        key = (job.base.digest, canonical_json(asked.to_json()))
        if key not in self._templates:
            template = template_of(asked.expected(self.store.get_arrays(job.base)))
            same = {k: v for k, v in self._templates.items() if k[0] == job.base.digest}
            self._templates = same | {key: template}
        return self._templates[key]


def _stale(done: Done, staleness: int) -> Done:
    assert isinstance(done.result, ClientUpdate)  # only training is waited for after its time
    return replace(done, result=replace(done.result, staleness=staleness))
