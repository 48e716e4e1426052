"""Which tasks a round over sites has on the run's page, and how each ends."""

from concurrent.futures import Future
from threading import Event
from types import SimpleNamespace

import pytest

from fedcore.aggregation import GROUP
from fedcore.jobs import JobKind
from fedcore.outcomes import Absent, Done, Evaluation, Failed, Refused
from fedcore.sites.codes import Code
from fedcore.sites.refusal import Reason
from tasks import shown_sites
from tasks.shown_sites import ShownSites, _Group, await_sites


def job(client, kind=JobKind.TRAIN, key=None, keep_scores=False):
    return SimpleNamespace(
        client=client, round=3, kind=kind, key=key or f"{client}-{kind}", keep_scores=keep_scores
    )


def done(one):
    return Done(one.client, one.key, Evaluation(1, {}))


class Engine:
    """Announces all jobs but those that are known, and gives each its outcome."""

    def __init__(self, outcomes, known=()):
        self.outcomes, self.known = outcomes, known

    def run(self, jobs):
        jobs = list(jobs)
        self.asked([one for one in jobs if one.client not in self.known])
        for one in jobs:
            if (outcome := self.outcomes(one)) is None:
                raise KeyboardInterrupt
            yield one, outcome


@pytest.fixture
def shown(monkeypatch):
    """Label -> how the task ends, once the round is over."""
    submitted = []

    def submit(*arguments):
        submitted.append(arguments)
        return SimpleNamespace(wrapped_future=Future())

    monkeypatch.setattr(shown_sites.await_sites, "submit", submit)
    monkeypatch.setattr(shown_sites, "LULL_SECONDS", 0.01)

    def over(jobs, outcomes, **words):
        list(ShownSites(Engine(outcomes, **words)).run(jobs))
        return ends()

    def ends():
        return {one[0]: await_sites.fn(*one) for one in submitted}

    over.ends = ends
    return over


def test_a_task_for_each_site_that_is_asked_ends_as_the_site_did(shown):
    outcomes = {
        "north": Done("north", "k", Evaluation(1, {})),
        "south": Refused("south", "k", Code.NOT_APPROVED),
        "west": Failed("west", "k", Code.OUT_OF_MEMORY),
        "east": Absent("east", "k", "no answer by the deadline"),
        "mid": Refused("mid", "k", Reason.NORM),
    }
    jobs = [job(name) for name in (*outcomes, "known")]
    ends = shown(jobs, lambda one: outcomes.get(one.client) or done(one), known={"known"})
    assert {label: (end.name, end.message) for label, end in ends.items()} == {
        "round-3/north": ("Completed", None),
        "round-3/south": (
            "Refused",
            "its administrator has not approved this run yet (not_approved)",
        ),
        "round-3/west": ("Failed", "it ran out of memory (out_of_memory)"),
        "round-3/east": ("Absent", "no answer by the deadline"),
        "round-3/mid": ("Refused", "what it sent was refused (norm)"),
    }
    assert {label for label, end in ends.items() if end.is_failed()} == {
        f"round-3/{name}" for name in ("south", "west", "east", "mid")
    }


def test_evaluations_are_one_task_and_large_cohorts_are_not_all_shown(shown):
    jobs = [job("north", JobKind.EVALUATE, split) for split in ("val", "test")]
    ends = shown(jobs, lambda one: done(one) if one.key == "val" else Failed("north", "test", "x"))
    assert ends["round-3/evaluate"].message == "1 of 2 answers"
    ends = shown([job("north", JobKind.EVALUATE, keep_scores=True)], done)
    assert ends["final/evaluate"].is_completed()
    many = [job(f"site-{number}") for number in range(GROUP + 5)]
    assert sum("round-3/site" in label for label in shown(many, done)) == GROUP


def test_nobody_waits_for_a_round_that_was_stopped(shown):
    with pytest.raises(KeyboardInterrupt):
        shown(
            [job("north"), job("south")], lambda one: done(one) if one.client == "north" else None
        )
    ends = shown.ends()
    assert ends["round-3/north"].is_completed()
    assert ends["round-3/south"].is_cancelled()


def test_a_task_ends_when_the_answers_pause(shown, monkeypatch):
    """Not with its site's answer, and yet before the round is over."""
    north, both = Event(), Event()
    ended = {"round-3/north": north, "round-3/south": both}
    monkeypatch.setattr(_Group, "end", lambda group, is_over=False: ended[group.label].set())
    monkeypatch.setattr(shown_sites, "LULL_SECONDS", 60)
    rounds = ShownSites(Engine(done)).run([job("north"), job("south")])
    next(rounds)
    assert not north.is_set()
    monkeypatch.setattr(shown_sites, "LULL_SECONDS", 0.01)
    next(rounds)
    assert north.wait(20) and both.wait(20)
