"""A run over sites: sessions with folders of their own, met at a mailbox."""

import shutil
import threading

import numpy as np
import pytest

from benchmarks.mailbox_parties import POLICY
from fedcore.config import make_config
from fedcore.data.arrays import Arrays
from fedcore.data.heart import HOSPITALS, HeartDisease
from fedcore.engines.in_process import InProcessEngine
from fedcore.numerics import code_digest
from fedcore.rounds import TooFewClients, run_rounds
from fedcore.run import run_federated
from fedcore.sites.announcement import Announcement, Ask
from fedcore.sites.base_models import KEPT
from fedcore.sites.planning import inquiries
from fedcore.sites.refusals import Refusals, refusals_of
from fedcore.sites.request import Request
from fedcore.sites.run import begin_over_sites, invite
from fedcore.sites.session import Session
from fedcore.store import Store

SECTIONS = {
    "data": {"kind": "heart_disease", "download": False},
    "partition": {"kind": "by_owner"},
    "audit": {"remedy": "drop-from-train"},
    "model": {"kind": "logistic"},
    "training": {
        "kind": "loop",
        "batch_size": 8,
        "steps": 3,
        "learning_rate": 0.05,
        "class_weights": "federation",
    },
    "strategy": {"kind": "fedadam", "server_learning_rate": 0.05},
    "rounds": {"count": 3, "min_clients": 4},
    "evaluation": {"splits": ["test"]},
}


REPEATABLE = {"kind": "example", "noise_multiplier": 1.0, "secret": "fixed"}
UNWEIGHTED = {**SECTIONS["training"], "class_weights": "none"}
REPEATABLE_RUN = {"training": UNWEIGHTED, "privacy": REPEATABLE}
IN_TURN = {
    "training": UNWEIGHTED,
    "privacy": {
        "kind": "client",
        "noise_multiplier": 1.0,
        "correlation": "banded",
        "secret": "fixed",
    },
    "participation": {"kind": "cyclic", "groups": 2},
    "aggregation": {"weighting": "uniform"},
    "rounds": {"count": 3},
    "evaluation": {"splits": ["test"], "clients": False},
}
SMALL = {
    "model": {"kind": "logistic"},
    "audit": {"remedy": "accept"},
    "training": {"kind": "loop", "batch_size": 8, "steps": 2},
    "rounds": {"count": 2, "min_clients": 2},
}
NAMES = ("north", "south")


@pytest.fixture
def wards(tmp_path):
    """Two sites with rows of their own."""
    words = {"task": "binary", "inputs": "x", "targets": "y", "split": "split"}
    data = {}
    for seed, name in enumerate(NAMES):
        folder = tmp_path / "wards" / name
        folder.mkdir(parents=True)
        draw = np.random.default_rng(seed)
        np.savez(
            folder / "own.npz",
            x=draw.normal(seed, 1, (40, 3)).astype(np.float32),
            y=np.arange(40) % 2,
            split=np.repeat(["train", "val"], 20),
        )
        data[name] = (Arrays(path="own.npz", **words), folder)
    return data


def run_of(world, attended, each=lambda record: None, **sections):
    """A run of these sites, attended by sessions that live as long as it."""
    with attended(*(Session(site, "run") for site in world.sites.values())):
        return world.run(world.config(**{**SMALL, **sections}), each=each)[1]


@pytest.mark.slow
def test_a_session_that_is_lost_after_every_step_gives_the_same_model(
    wards, make_world, attended, tmp_path
):
    expected = run_of(make_world(wards), attended)
    world = make_world(wards, at=tmp_path / "again")
    open_, done = dict(world.sites), threading.Event()

    def forgetful():
        while open_ and not done.is_set():
            for name, site in list(open_.items()):
                session = Session(site, "run")
                while session.step():
                    if session.closed:
                        open_.pop(name)
                        break

    thread = threading.Thread(target=forgetful, daemon=True)
    thread.start()
    try:
        _, result = world.run(world.config(**SMALL))
        thread.join(20)
    finally:
        done.set()
    assert result.final_digest == expected.final_digest and not open_
    for site in world.sites.values():
        actions = [entry.action for entry in site.log.entries()]
        assert actions.count("released") == 2 + 2 * 3  # and two rounds of train, val and test


@pytest.mark.slow
def test_a_site_keeps_the_last_models_while_a_run_goes_on_and_none_when_it_is_over(
    wards, make_world, attended
):
    world, records, held = make_world(wards), [], []
    (north, *_) = world.sites.values()

    def look(record=None):
        records.extend([record] if record else [])
        held.append(sum(north.store.holds(one.model) for one in records))

    run_of(world, attended, look, rounds={"count": 7, "min_clients": 2})
    look()
    assert len(records) == 7 and held[:3] == [1, 2, 3]
    assert max(held) == KEPT and held[-1] == 0


@pytest.mark.slow
def test_what_a_site_says_that_is_none_is_kept_and_told_and_the_run_goes_on(
    wards, make_world, attended, monkeypatch
):
    monkeypatch.setattr("fedcore.sites.gather.ASKED_AGAIN", 0.1)
    world, facts = make_world(wards), []
    refusals = Refusals(world.coordinator.log, "run", facts.append)
    config = world.config(**SMALL)
    invitation = invite(config, world.coordinator, world.mailbox, "run", refused=refusals.refused)
    lane = invitation.lanes["south"].lane
    inquiry = inquiries(config, ["south"], invitation.salt, {})
    asks = Announcement(Ask.AUDIT, facts=Request(config, code_digest(), inquiry["south"]).to_json())
    world.mailbox.post(lane.reply(asks.key), b"junk")
    with attended(*(Session(site, "run") for site in world.sites.values())):
        plan, chain = begin_over_sites(config, invitation, world.store, "run", print)
        engine = invitation.engine(plan, world.store, print)
        (record, *_) = run_rounds(plan, chain, engine, facts.append)
        invitation.close()
    assert refusals_of(world.coordinator.log.entries(), "run") == {"south": {"not_json": 1}}
    (fact,) = (one for one in facts if one.status == "not-admitted")
    assert (fact.node_id, fact.message) == ("south", "not_json: message")
    assert {row["status"] for row in record.outcomes.values()} == {"done"}


@pytest.fixture
def hospitals(fedloom_data, tmp_path):
    """Site -> its data settings and the folder with its own file alone."""
    data = {}
    for hospital in HOSPITALS:
        folder = tmp_path / "files" / hospital.owner
        (folder / "heart").mkdir(parents=True)
        shutil.copy(fedloom_data / "heart" / hospital.file, folder / "heart")
        data[hospital.owner] = (
            HeartDisease(download=False, hospitals=(hospital.owner,)),
            folder,
        )
    return data


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, REPEATABLE_RUN, IN_TURN], ids=["plain", "private", "turn"])
def test_four_hospitals_give_the_model_of_one_process(
    fedloom_data, hospitals, tmp_path, make_world, attended, changes
):
    here = Store(tmp_path / "here")
    engine = InProcessEngine(here, tmp_path / "cache")
    sections = {**SECTIONS, **changes}
    config = make_config(sections)
    _, alone = run_federated(
        config, store=here, engine=engine, run_id="run", data_folder=fedloom_data
    )
    world = make_world(hospitals)
    sessions = [Session(site, "run") for site in world.sites.values()]
    with attended(*sessions):
        _, result = world.run(world.config(**sections))
    assert [r.model for r in result.records] == [r.model for r in alone.records]
    assert result.final_digest == alone.final_digest
    assert all(one.closed for one in sessions)


def own_noise(**values):
    return {"kind": "example", "noise_multiplier": 1.0, **values}


@pytest.mark.slow
def test_each_site_makes_its_own_noise_and_charges_its_own_ledger(
    wards, make_world, attended, tmp_path
):
    world = make_world(wards, policy=POLICY + "private_only: true\n")
    result = run_of(world, attended, privacy=own_noise())
    for site in world.sites.values():
        charges = site.owner.ledger.charges()
        assert [one.data for one in charges] == ["all records"] * 2
        sent = {row["update"] for one in result.records for row in one.outcomes.values()}
        assert {one.released for one in charges} <= sent
    told = [event for one in result.records for event in one.privacy]
    assert [one["client"] for one in told] == [*NAMES, *NAMES]
    again = run_of(make_world(wards, at=tmp_path / "again"), attended, privacy=own_noise())
    assert again.final_digest != result.final_digest  # other secrets


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "privacy", "code"),
    [
        ("private_only: true", {"kind": "none"}, "not_private"),
        ("private_only: true", REPEATABLE, "not_private"),
        ("privacy_budget: {epsilon: 0.01}", own_noise(), "budget_spent"),
    ],
)
def test_a_site_refuses_what_tells_more_than_its_policy_allows(
    wards, make_world, attended, policy, privacy, code
):
    world = make_world(wards, policy=f"{POLICY}{policy}\n")
    with pytest.raises(TooFewClients, match=code):
        run_of(world, attended, privacy=privacy)
    for site in world.sites.values():
        assert not site.owner.ledger.charges()
        blobs = [one for one in site.log.entries() if one.action == "released"]
        assert not [one for one in blobs if one.subject == "train" and not one.reason]
