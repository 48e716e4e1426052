"""Sites that come after the beginning: they join from a round on, by a decision in the chain."""

import time
from dataclasses import replace

import numpy as np
import pytest

from fedcore.audit.settings import AuditSettings
from fedcore.data.arrays import Arrays
from fedcore.data.dataset import Dataset, Split
from fedcore.decisions import Verdict
from fedcore.rounds import run_rounds
from fedcore.run import begun
from fedcore.sites.description import describe
from fedcore.sites.inquiry import Inquiry
from fedcore.sites.joining import DoesNotFit, descriptions_of, keep_descriptions, leaves_out
from fedcore.sites.planning import SitesDiffer
from fedcore.sites.run import begin_over_sites, invite, meet_again
from fedcore.sites.session import Session
from fedcore.task import Task, TaskKind

DROPS = AuditSettings(remedy="drop-from-train", min_class_support=1)
TABLE = {"kind": "table", "names": ["x0", "x1"]}


def rows(seed, count=12):
    return np.random.default_rng(seed).normal(seed, 1, (count, 2)).astype(np.float32)


def described(client, train, test=None, settings=DROPS, features=TABLE):
    parts = {"train": train} | ({} if test is None else {"test": test})
    splits = {name: Split(x, np.arange(len(x)) % 2) for name, x in parts.items()}
    dataset = Dataset("tiny", Task(TaskKind.BINARY, ("no", "yes")), splits, features)
    inquiry = Inquiry(settings, "none", "0" * 64)
    return describe(dataset, client, inquiry, secret=bytes(32))


# -- who fits --------------------------------------------------------------------------------------


def test_a_site_with_rows_of_its_own_leaves_nothing_out():
    others = [described("a", rows(1)), described("b", rows(2))]
    assert leaves_out(DROPS, others, described("c", rows(3))) == {}


def test_rows_that_others_train_on_are_left_out_by_the_newcomer():
    mine = rows(3)
    mine[:2] = rows(1)[:2]
    drop = leaves_out(DROPS, [described("a", rows(1))], described("c", mine))
    assert {split: len(hashes) for split, hashes in drop.items()} == {"train": 2}


def test_rows_that_others_would_have_to_leave_out_keep_a_site_out():
    """They have trained on them: in the newcomer's test rows, or since it is the first by name."""
    shared = np.concatenate([rows(1)[:2], rows(5)])
    for late in (described("c", rows(3), test=shared), described("0", shared)):
        with pytest.raises(DoesNotFit, match="samples that a would have to leave out"):
            leaves_out(DROPS, [described("a", rows(1)), described("b", rows(2))], late)


def test_a_site_with_other_columns_or_an_audit_that_fails_stays_out():
    others = [described("b", rows(1))]
    with pytest.raises(SitesDiffer, match=r"^a has another description of inputs"):
        leaves_out(DROPS, others, described("a", rows(3), features={"kind": "table"}))
    broken = rows(3)
    broken[0, 0] = np.nan
    with pytest.raises(DoesNotFit, match="audit"):
        leaves_out(DROPS, others, described("a", broken))


# -- a run over sites ------------------------------------------------------------------------------


NAMES = ("east", "north", "south")
SMALL = {
    "model": {"kind": "logistic"},
    "audit": {"remedy": "drop-from-train"},
    "training": {"kind": "loop", "batch_size": 8, "steps": 2},
    "rounds": {"count": 6, "min_clients": 2},
    "engine": {"kind": "sites", "join_seconds": 0.5, "limit_seconds": 30, "deadline_seconds": 30},
}


@pytest.fixture
def late(make_world, tmp_path, monkeypatch):
    """Three sites; of the rows of the last one two are also at the first."""
    monkeypatch.setattr("os.fsync", lambda file: None)
    monkeypatch.setattr("fedcore.sites.session.LONGEST_PAUSE", 0.1)
    words = {"task": "binary", "inputs": "x", "targets": "y", "split": "split"}
    words |= {"val_fraction": 0, "test_fraction": 0}
    data, first = {}, None
    for seed, name in enumerate(NAMES):
        folder = tmp_path / "wards" / name
        folder.mkdir(parents=True)
        x = rows(seed, 40)
        first = x if first is None else first
        if name == "south":
            x[:2] = first[:2]
        split = np.repeat(["train", "val"], 20)
        np.savez(folder / "own.npz", x=x, y=np.arange(40) % 2, split=split)
        data[name] = (Arrays(path="own.npz", **words), folder)
    return make_world(data)


class Run:
    """A run over these sites, of which one comes after the first round."""

    def __init__(self, world, attended, opening=1):
        self.world, self.attended = world, attended
        self.said, self.waits = [], False
        self.config = world.config(**SMALL)
        self.invitation = invite(
            self.config, world.coordinator, world.mailbox, "run", opening=opening
        )

    def sessions(self, *names, opening=1):
        return self.attended(*(Session(self.world.sites[n], "run", opening) for n in names))

    def rounds(self, plan, chain):
        engine = self.invitation.engine(plan, self.world.store, self.said.append)
        joining = self.invitation.joining(chain, engine, self.said.append)

        def look(plan):
            """Between two rounds; so that fast rounds are not over before a slow site is there, the
            test waits until it has answered."""
            plan = joining.look(plan)
            while self.waits and "south" not in plan.federation.clients:
                said, lane = joining._newcomers["south"].said, self.invitation.lanes["south"]
                if lane.answer(said.key, said.attempt):
                    break
                time.sleep(0.02)
            return plan

        return run_rounds(plan, chain, engine, lambda fact: None, consult=look)


@pytest.mark.slow
def test_a_site_that_comes_later_takes_part_from_then_on(late, attended):
    run, store = Run(late, attended), late.store
    with run.sessions("east", "north"):
        plan, chain = begin_over_sites(run.config, run.invitation, store, "run", run.said.append)
        assert plan.federation.ids == ("east", "north")
        going = run.rounds(plan, chain)
        records = [next(going)]
        run.waits = True
        with run.sessions("south"):
            records += going
            run.invitation.close()
    cohorts = [record.cohort for record in records]
    (decision,) = chain.decisions()
    since = decision.round
    assert cohorts == since * [("east", "north")] + (6 - since) * [NAMES] and 1 <= since < 6
    assert (decision.verdict, decision.clients) == (Verdict.ADD, ("south",))
    assert f"site south takes part from round {since + 1} on" in run.said
    assert {row["status"] for one in records for row in one.outcomes.values()} == {"done"}
    measured = [{*one.metrics["val"]["clients"]} for one in records]
    assert measured == [{*cohort} for cohort in cohorts]

    plan, chain = begun(store, "run")  # as whoever goes on or checks finds it
    assert [plan.cohort(number) for number in range(1, 7)] == cohorts
    sizes = {one.client: one.sizes["train"] for one in descriptions_of(chain)}
    assert sizes == {"east": 20, "north": 20, "south": 18}
    assert plan.federation.clients["south"].sizes["train"] == 18


@pytest.mark.slow
def test_a_run_that_is_taken_up_again_has_the_sites_that_joined(late, attended):
    run, store = Run(late, attended), late.store
    with run.sessions("east", "north"):
        plan, chain = begin_over_sites(run.config, run.invitation, store, "run", print)
        going = run.rounds(plan, chain)
        run.waits = True
        with run.sessions("south"):
            while "south" not in next(going).cohort:
                pass
            going.close()  # the coordinator is gone
            again = Run(late, attended, opening=2)
            plan, chain = begun(store, "run")
            with run.sessions(*NAMES, opening=2):
                meet_again(again.invitation, plan, chain, print)
                assert [one.cohort for one in again.rounds(plan, chain)][-1] == NAMES
                again.invitation.close()
            run.invitation.close()
    assert len(chain.decisions()) == 1 and len(list(chain.records())) == 6


@pytest.mark.slow
def test_a_site_that_does_not_fit_is_left_alone_and_the_run_goes_on(late, attended):
    run = Run(late, attended)
    with run.sessions("east", "north"):
        plan, chain = begin_over_sites(run.config, run.invitation, late.store, "run", print)
        (kept,) = [one for one in descriptions_of(chain) if one.client == "east"]
        other = replace(kept, dataset="other")
        keep_descriptions(chain, [other, replace(other, client="north")])
        with run.sessions("south"):
            records = list(run.rounds(plan, chain))
            run.invitation.close()
    assert {one.cohort for one in records} == {("east", "north")}
    assert len([one for one in run.said if "south cannot join" in one]) == 1
