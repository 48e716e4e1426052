"""Rounds at sites by the test's own clock: who is waited for, how long, and what comes late."""

import numpy as np
import pytest

from fedcore import memo
from fedcore.assignment import Assignment
from fedcore.engines.sites import Patience, SitesEngine
from fedcore.jobs import ClientJob, JobKind
from fedcore.outcomes import Absent, Done, Failed, Refused
from fedcore.refs import Ref
from fedcore.sites.admit import seal_context
from fedcore.sites.announcement import Ask
from fedcore.sites.correspondence import Correspondence
from fedcore.sites.identity import new_identity
from fedcore.sites.inbox import Inbox
from fedcore.sites.mailbox import Mailbox, models
from fedcore.sites.refusal import Reason
from fedcore.sites.registry import RegisteredSite
from fedcore.sites.reply import Reply
from fedcore.sites.sealing import seal
from fedcore.store import Store
from fedcore.tensors import encode

ASKED = {"assignment": Assignment().to_json()}
NAMES = ("a", "b", "c")
CENTRE, KEYS = new_identity("coordinator"), {name: new_identity(name) for name in NAMES}


class Clock:
    """Time that passes only where somebody sleeps, and then what was to happen happens."""

    def __init__(self):
        self.now, self.due = 0.0, []

    def at(self, when, does):
        self.due.append((when, does))

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += max(seconds, 1e-3)  # floats: a tiny step would be none
        ready = sorted((one for one in self.due if one[0] <= self.now), key=lambda one: one[0])
        self.due = [one for one in self.due if one[0] > self.now]
        for _, does in ready:
            does()


class World:
    """Sites that say what a test has them say."""

    def __init__(self, folder, clock):
        self.clock, self.store = clock, Store(folder / "store")
        self.mailbox = Mailbox(Store(folder / "mailbox"))
        self.inboxes = {
            name: Inbox(self.mailbox, KEYS[name], CENTRE.public, "run") for name in NAMES
        }
        self.told, self.refusals = [], []

    def engine(self, patience=None, names=NAMES, status="active", **changes):
        lanes = {
            name: Correspondence(
                self.mailbox, CENTRE, RegisteredSite(KEYS[name].public, 1000, status), "run"
            )
            for name in names
        }
        patience = patience or Patience(deadline=60, limit=120, enough=1, grace=10)
        return SitesEngine(
            self.store,
            lanes,
            {},
            patience,
            refused=lambda site, refusal, job: self.refusals.append((site, refusal.reason)),
            say=self.told.append,
            **changes,
        )

    def jobs(self, round, names=NAMES):
        model = {"w": np.full((2, 3), round, np.float32)}
        base, data = self.store.put_arrays(model, "model"), Ref("d" * 64, 9, "shard")
        return {
            name: ClientJob(JobKind.TRAIN, name, round, 0, base, data, ASKED, {}, "c", {})
            for name in names
        }

    def answers(self, job, after, attempt=0, value=1.0, examples=40, **fields):
        """Has a site leave its answer some seconds from now."""
        self.clock.at(
            self.clock.now + after, lambda: self.answer(job, attempt, value, examples, **fields)
        )

    def answer(self, job, attempt=0, value=1.0, examples=40, **fields):
        inbox = self.inboxes[job.client]
        if fields:
            inbox.answer(Reply(job.key, attempt=attempt, **fields))
            return
        plain = encode({"w": np.full((2, 3), value, np.float32)})
        sealed = seal(plain, CENTRE.public, seal_context("run", job.key))
        inbox.answer(
            Reply(
                job.key,
                "done",
                attempt,
                base=job.base.digest,
                num_examples=examples,
                sealed=self.mailbox.post_blob(inbox.lane.outbox, sealed, "sealed"),
                plain=self.store.put(plain, "plain"),
            )
        )

    def run(self, engine, jobs):
        """client -> outcome, and when the round ended."""
        return {job.client: outcome for job, outcome in engine.run(jobs.values())}

    def asked(self, site):
        """(ask, round, attempt) of everything that a site finds."""
        found = []
        while said := self.inboxes[site].take():
            found.append((said.ask, said.round, said.attempt))
        return found

    def left(self, site):
        """How many files of a site lie in the mailbox."""
        return len(self.mailbox.place.names(self.inboxes[site].lane.outbox))


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)
    clock = Clock()
    monkeypatch.setattr("fedcore.engines.sites.time", clock)
    return World(tmp_path, clock)


# -- who is waited for, and how long ---------------------------------------------------------------


def test_all_answers_end_a_round_and_are_remembered(world):
    jobs = world.jobs(1)
    for name, after in zip(NAMES, (3, 1, 2), strict=True):
        world.answers(jobs[name], after)
    found = list(world.engine().run(jobs.values()))
    assert [job.client for job, _ in found] == ["b", "c", "a"]
    assert all(isinstance(outcome, Done) for _, outcome in found)
    assert 3 <= world.clock.now < 4
    assert all(memo.recall(world.store, job.key) for job in jobs.values())
    before = world.clock.now
    again = world.run(world.engine(), jobs)  # the memo has them: nobody is asked
    assert all(one.reused for one in again.values()) and world.clock.now == before


def test_who_says_nothing_until_the_deadline_is_absent(world):
    jobs = world.jobs(1)
    world.answers(jobs["a"], 5)
    found = world.run(world.engine(), jobs)
    assert isinstance(found["a"], Done) and isinstance(found["b"], Absent)
    assert world.clock.now == pytest.approx(60, abs=1)


def test_a_quorum_leaves_the_others_only_grace(world):
    jobs = world.jobs(1)
    world.answers(jobs["a"], 5)
    world.answers(jobs["b"], 20)
    patience = Patience(deadline=60, limit=120, enough=1, quorum=2, grace=10)
    found = world.run(world.engine(patience), jobs)
    assert [name for name, one in found.items() if isinstance(one, Done)] == ["a", "b"]
    assert world.clock.now == pytest.approx(30, abs=1)


def test_a_silent_site_gets_only_grace_the_next_time_and_is_asked_again(world):
    engine = world.engine()
    for round in (1, 2):
        jobs = world.jobs(round)
        started = world.clock.now
        for name in ("a", "b"):
            world.answers(jobs[name], 5)
        assert isinstance(world.run(engine, jobs)["c"], Absent)
        assert world.clock.now - started == pytest.approx(60 if round == 1 else 15, abs=1)
    assert world.asked("c") == [(Ask.TRAIN, 2, 0)]  # the first is passed over: nobody needs it
    jobs, started = world.jobs(3), world.clock.now
    for name, after in zip(NAMES, (1, 1, 8), strict=True):
        world.answers(jobs[name], after)
    assert isinstance(world.run(engine, jobs)["c"], Done)
    jobs, started = world.jobs(4), world.clock.now
    for name, after in zip(NAMES, (1, 1, 50), strict=True):
        world.answers(jobs[name], after)
    assert isinstance(world.run(engine, jobs)["c"], Done)  # it is waited for as before
    assert world.clock.now - started == pytest.approx(50, abs=1)


def test_too_few_are_waited_for_and_named_until_the_limit(world):
    jobs = world.jobs(1)
    world.answers(jobs["b"], 5)
    found = world.run(world.engine(Patience(deadline=60, limit=120, enough=2)), jobs)
    assert [type(found[name]) for name in NAMES] == [Absent, Done, Absent]
    assert world.clock.now == pytest.approx(120, abs=1)
    assert len(world.told) == 3  # after 15, 30 and 60 s
    for said in world.told:
        assert said.startswith("round 1: 1 sites have answered and 2 are needed; waiting for a, c,")
        assert said.endswith(" s at most")


def test_a_round_that_cannot_get_enough_any_more_ends_at_the_deadline(world):
    engine = world.engine(Patience(deadline=5, limit=500, enough=3))
    jobs = world.jobs(1)
    first, second = (jobs[name] for name in NAMES[:2])
    world.answers(first, 1)
    world.answers(second, 1, status="refused", code="not_approved")
    outcomes = world.run(engine, jobs)
    assert isinstance(outcomes[NAMES[1]], Refused) and isinstance(outcomes[NAMES[2]], Absent)
    assert 5 <= world.clock.now < 10


def test_nobody_there_is_waited_for_and_then_absent(world):
    found = world.run(world.engine(), world.jobs(1))
    assert all(isinstance(one, Absent) for one in found.values())
    assert world.clock.now == pytest.approx(120, abs=1) and "0 sites have answered" in world.told[0]


def test_who_comes_after_the_deadline_saves_a_round_that_lacks_sites(world):
    jobs = world.jobs(1)
    world.answers(jobs["c"], 100)
    found = world.run(world.engine(), jobs)
    assert isinstance(found["c"], Done) and world.clock.now == pytest.approx(100, abs=2)


# -- what goes wrong -------------------------------------------------------------------------------


def test_a_failed_job_is_asked_for_again_under_a_new_attempt(world):
    jobs = world.jobs(1, ["a"])
    world.answers(jobs["a"], 1, status="failed", code="out_of_memory")
    world.answers(jobs["a"], 5, attempt=1)
    assert isinstance(world.run(world.engine(), jobs)["a"], Done)
    assert world.asked("a") == [(Ask.TRAIN, 1, 0), (Ask.TRAIN, 1, 1)]


def test_after_the_retries_a_failure_is_an_outcome(world):
    jobs = world.jobs(1, ["a"])
    for attempt in (0, 1):
        world.answers(jobs["a"], attempt + 1, attempt, status="failed", code="work_failed")
    assert world.run(world.engine(), jobs)["a"] == Failed("a", jobs["a"].key, "work_failed")


def test_a_site_is_not_asked_after_three_refusals_in_a_row(world):
    engine = world.engine()
    for round, is_good in enumerate((False, False, True, False, False, False), start=1):
        jobs = world.jobs(round, ["a"])
        world.answers(jobs["a"], 1, examples=40 if is_good else 10**6)  # more than registered
        outcome = world.run(engine, jobs)["a"]
        assert isinstance(outcome, Done) if is_good else outcome.reason == Reason.EXAMPLES
    assert world.refusals == [("a", Reason.EXAMPLES)] * 5
    jobs = world.jobs(7, ["a"])
    assert world.run(engine, jobs)["a"] == Refused("a", jobs["a"].key, "quarantined")
    assert (Ask.TRAIN, 7, 0) not in world.asked("a")


def test_a_revoked_site_and_one_that_was_not_invited_are_not_asked(world):
    jobs = world.jobs(1, ["a", "b"])
    found = world.run(world.engine(names=["a"], status="revoked"), jobs)
    assert found["a"] == Refused("a", jobs["a"].key, Reason.REVOKED)
    assert isinstance(found["b"], Absent) and "not invited" in found["b"].reason
    assert world.clock.now == 0 and world.asked("a") == []


def test_old_models_are_taken_out_of_the_mailbox(world):
    engine = world.engine()
    bases = []
    for round in range(1, 6):
        jobs = world.jobs(round, ["a"])
        bases.append(f"{models('run')}/{jobs['a'].base.digest}")
        world.answers(jobs["a"], 1)
        world.run(engine, jobs)
    assert world.mailbox.place.names(models("run")) == sorted(bases[-3:])


# -- late ------------------------------------------------------------------------------------------


def missed(world, engine, round=1):
    """A round in which c says nothing."""
    jobs = world.jobs(round)
    for name in ("a", "b"):
        world.answers(jobs[name], 1)
    assert isinstance(world.run(engine, jobs)["c"], Absent)
    return jobs


def test_a_late_update_is_taken_as_stale_by_the_round_that_waits(world):
    engine = world.engine(late="stale")
    first = missed(world, engine)
    jobs = world.jobs(2)
    for name in ("a", "b"):
        world.answers(jobs[name], 1)
    world.answers(first["c"], 3, value=7.0)
    found = world.run(engine, jobs)
    done = found["c"]
    assert (done.key, done.result.base) == (first["c"].key, first["c"].base.digest)
    assert done.result.staleness == 1 and found["a"].result.staleness == 0
    assert world.store.get_arrays(done.result.delta)["w"][0, 0] == 7.0
    assert memo.recall(world.store, first["c"].key).result.staleness == 0  # as of its own round
    jobs_3 = world.jobs(3)
    for name in ("a", "b"):
        world.answers(jobs_3[name], 1)
    world.answers(jobs["c"], 2)  # what it made of the second comes in the third
    assert world.run(engine, jobs_3)["c"].result.staleness == 1
    assert world.left("c") == 1  # the update of the second, until something is asked again


def test_the_update_of_the_round_itself_goes_before_a_late_one(world):
    engine = world.engine(late="stale")
    first = missed(world, engine)
    jobs = world.jobs(2)
    for job in (*jobs.values(), first["c"]):
        world.answer(job)
    found = world.run(engine, jobs)
    assert found["c"].key == jobs["c"].key and found["c"].result.staleness == 0


def test_a_late_update_is_refused_told_and_taken_out(world):
    engine = world.engine()
    first = missed(world, engine)
    jobs = world.jobs(2)
    for name in ("a", "b"):
        world.answers(jobs[name], 1)
    world.answers(first["c"], 2)
    found = world.run(engine, jobs)
    assert found["c"] == Refused("c", jobs["c"].key, Reason.LATE)
    assert world.refusals == [("c", Reason.LATE)]
    assert "round 1 came late" in "".join(world.told)
    assert memo.recall(world.store, first["c"].key) is None
    jobs = world.jobs(3)
    for job in jobs.values():
        world.answers(job, 1)
    assert isinstance(world.run(engine, jobs)["c"], Done)  # no step towards quarantine
    assert world.left("c") == 2  # answer and update of this round alone


def test_a_site_that_was_late_is_done_where_it_answers_in_time_after_all(world):
    engine = world.engine()
    first = missed(world, engine)
    jobs = world.jobs(2)
    for job in jobs.values():
        world.answers(job, 4)
    world.answers(first["c"], 2)
    assert isinstance(world.run(engine, jobs)["c"], Done)
    assert world.refusals == [("c", Reason.LATE)]


@pytest.mark.parametrize("late", ["refuse", "stale"])
def test_a_late_answer_is_checked_like_any_other(world, late):
    engine = world.engine(late=late)
    first = missed(world, engine)
    jobs = world.jobs(2)
    for name in ("a", "b"):
        world.answers(jobs[name], 1)
    world.answers(first["c"], 2, examples=10**6)
    assert isinstance(world.run(engine, jobs)["c"], Absent)
    assert world.refusals == [("c", Reason.EXAMPLES)]


@pytest.mark.parametrize("status", ["failed", "refused"])
def test_a_late_no_counts_for_nothing(world, status):
    engine = world.engine(late="stale")
    first = missed(world, engine)
    jobs = world.jobs(2)
    for name in ("a", "b"):
        world.answers(jobs[name], 1)
    world.answers(first["c"], 2, status=status, code="out_of_memory")
    assert isinstance(world.run(engine, jobs)["c"], Absent) and world.refusals == []


def test_only_the_last_rounds_of_a_site_are_waited_for(world):
    engine = world.engine(late="stale")
    rounds = [missed(world, engine, round) for round in (1, 2, 3, 4)]
    jobs = world.jobs(5)
    for name in ("a", "b"):
        world.answers(jobs[name], 1)
    world.answers(rounds[0]["c"], 2)
    assert isinstance(world.run(engine, jobs)["c"], Absent)
