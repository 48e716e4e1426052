"""What the boundary refused is told and kept, at a bounded rate, whatever becomes of the log."""

import pytest

from fedcore.events import EventType, Role
from fedcore.sites.audit_log import AuditLog
from fedcore.sites.refusal import Reason, Refusal
from fedcore.sites.refusals import EACH_A_MINUTE, Refusals, refusal_words, refusals_of

NORM, LATE = Refusal(Reason.NORM, "update"), Refusal(Reason.LATE, "round")


class World:
    """Refusals by the test's own clock."""

    def __init__(self, path):
        self.now, self.facts, self.warned = 0.0, [], []
        self.log = AuditLog(path)
        self.refusals = Refusals(self.log, "run-1", self.facts.append, self.warned.append)
        self.refusals.clock = lambda: self.now

    def refuse(self, times=1, site="north", refusal=NORM, every=0.0):
        for _ in range(times):
            self.refusals.refused(site, refusal, "train", 3)
            self.now += every

    @property
    def counts(self):
        return refusals_of(self.log.entries(), "run-1")


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)
    return World(tmp_path / "log.jsonl")


def test_a_refusal_is_an_entry_and_an_event(world):
    world.refuse()
    (entry,), (fact,) = world.log.entries(), world.facts
    assert (entry.action, entry.run, entry.subject, entry.reason) == (
        *("refused", "run-1"),
        *("north", "norm"),
    )
    assert entry.details == {"ask": "train", "round": 3, "what": "update", "count": 1}
    assert (fact.type, fact.status, fact.role) == (
        *(EventType.NODE_ERROR, "not-admitted"),
        Role.CLIENT,
    )
    assert (fact.node_id, fact.round, fact.message) == ("north", 3, "norm: update")


@pytest.mark.parametrize("every", [0.0, 0.001])
def test_a_flood_fills_no_disk_and_is_counted_to_the_last(world, every):
    world.refuse(60_000, every=every)
    assert len(list(world.log.entries())) == len(world.facts) == EACH_A_MINUTE
    world.refuse(site="south")  # another site's are not lost in it
    world.refuse(refusal=LATE)
    world.refusals.close()
    world.refusals.close()  # nothing is counted twice
    assert world.counts == {"north": {"late": 1, "norm": 60_000}, "south": {"norm": 1}}
    assert len(list(world.log.entries())) == EACH_A_MINUTE + 3
    assert sum(fact.metrics["count"] for fact in world.facts) == 60_002
    assert world.log.verify().count == EACH_A_MINUTE + 3


def test_each_minute_of_a_flood_has_so_many_lines_and_a_sum(world):
    world.refuse(3000, every=0.1)  # five minutes
    assert len(list(world.log.entries())) == 5 * (EACH_A_MINUTE + 1) - 1
    world.refusals.close()
    sums = [entry for entry in world.log.entries() if "seconds" in entry.details]
    assert [round(float(one.details["seconds"])) for one in sums] == 5 * [60]
    assert world.counts == {"north": {"norm": 3000}}


def test_few_refusals_are_never_only_counted(world):
    world.refuse(30, every=30.0)
    world.refusals.close()
    assert [one.details["count"] for one in world.log.entries()] == 30 * [1]


def test_a_log_that_cannot_be_written_stops_nothing_and_is_told_once(world):
    world.log.path.write_text("not an entry\n")
    world.refuse(3)
    world.refusals.close()
    assert len(world.facts) == 3  # events go another way
    (warning,) = world.warned
    assert "the run goes on" in warning and "changed" in warning
    assert "north" not in warning


def test_only_the_run_that_is_asked_for_is_counted(world):
    world.refuse()
    world.log.append("registered", subject="north")
    assert refusals_of(world.log.entries(), "run-2") == {}
    assert refusal_words(world.counts) == "north: norm 1"
