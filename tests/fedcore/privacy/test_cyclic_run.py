"""Runs that hide clients without drawing them: groups in turn, with banded noise."""

import itertools
from collections import Counter

import pytest

from fedcore.config import make_config
from fedcore.engines.in_process import InProcessEngine
from fedcore.fork import extend, fork
from fedcore.participation import public_coin
from fedcore.privacy import banded, calibrate, epsilon
from fedcore.privacy.budget import Budget, BudgetExceeded
from fedcore.privacy.client_round import client_mechanism, client_round
from fedcore.privacy.disjoint import events_about, payer, payer_fingerprint
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.ledger import Charge, Ledger
from fedcore.privacy.owner import Owner
from fedcore.privacy.spending import spending, warnings_about
from fedcore.refs import Ref
from fedcore.report.privacy import course_of_run
from fedcore.run import begun, go_on, run_federated
from fedcore.store import Store

GROUPS, ROUNDS = 3, 7
SECTIONS = {
    "seed": 1,
    "data": {"kind": "breast_cancer"},
    "model": {"kind": "logistic"},
    "partition": {"kind": "iid", "clients": 9},
    "preprocessing": {"standardise": "none"},
    "rounds": {"count": ROUNDS},
    "participation": {"kind": "cyclic", "groups": GROUPS},
    "privacy": {"kind": "client", "epsilon": 5.0, "correlation": "banded"},
    "aggregation": {"weighting": "uniform"},
    "evaluation": {"splits": ["test"], "clients": False, "every": 100},
}


class Killed(Exception):
    """In the middle of a run."""


class Fragile(Store):
    """A store that fails when the model of a round is to be kept; the first one is before it."""

    left = 10**9

    def put_arrays(self, arrays, kind):
        self.left -= kind == "model"
        if self.left < 0:
            raise Killed
        return super().put_arrays(arrays, kind)


def config_of(**changes):
    return make_config(SECTIONS, {key.replace("__", "."): value for key, value in changes.items()})


def engine_of(folder, owner):
    return InProcessEngine(Store(folder / "store"), folder / "cache", owner)


def run(folder, config):
    owner, store = Owner(folder / "privacy"), Store(folder / "store")
    engine = engine_of(folder, owner)
    plan, result = run_federated(config, store=store, engine=engine, run_id="run", owner=owner)
    return plan, result, owner


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, *run(folder, config_of())


def json_of(result):
    return [record.to_json() for record in result.records]


def noise_names(folder, record):
    state = Store(folder / "store").get_arrays(record.state)
    return [name.tobytes() for name in state["privacy.noise_names"]]


def test_clients_are_asked_in_turn_and_far_enough_apart(whole):
    _, plan, result, _ = whole
    asked = {}
    for record in result.records:
        for client in record.cohort:
            asked.setdefault(client, []).append(record.round)
    assert set(asked) == set(plan.federation.ids)
    for rounds in asked.values():
        assert all(b - a == GROUPS for a, b in itertools.pairwise(rounds))


def test_the_run_tells_what_its_most_asked_group_does(whole):
    folder, plan, result, owner = whole
    noise = calibrate(5.0, 1e-5, 1.0, 3)  # of 7 rounds a client is in 3 at most
    spent = spending(plan.config, json_of(result))
    assert set(spent.spent) == {payer(number, GROUPS) for number in (1, 2, 3)}
    assert epsilon(1.0, noise, 2, 1e-5).value < spent.overall.value < 5.0
    # six rounds have two whole participations of the first group
    six = spending(plan.config, json_of(result)[:6])
    assert six.spent[payer(1, GROUPS)].value == pytest.approx(
        epsilon(1.0, noise, 2, 1e-5).value, rel=1e-3
    )
    assert six.overall_next.value == pytest.approx(epsilon(1.0, noise, 3, 1e-5).value, rel=1e-3)
    # and the coordinator's ledger says the same, of each group and of all
    data, seed = plan.identity["partition"], plan.config.seed
    for name, one in spent.spent.items():
        assert owner.ledger.spent(payer_fingerprint(data, seed, name), 1e-5) == one
    assert owner.ledger.spent(data, 1e-5) == spent.overall
    course = course_of_run(plan.config, json_of(result))
    assert course.epsilon[0] == 0 and course.epsilon[6] == six.overall.value
    assert course.epsilon[7] == spent.overall.value
    assert len({charge.key for charge in owner.ledger.charges()}) == ROUNDS
    assert b"secret" not in b"".join(noise_names(folder, result.records[-1]))


def test_a_killed_run_ends_with_the_same_bytes(whole):
    """Killed after a charge and before its model is in the store; what was drawn is forgotten."""
    folder, _, result, owner = whole
    fork(Store(folder / "store"), "run", 0, {}, "killed")
    before = owner.ledger.charges()
    store = Fragile(folder / "store")
    store.left = 3
    with pytest.raises(Killed):
        go_on(*begun(store, "killed"), engine_of(folder, owner), owner=owner)
    banded._latest.clear()
    plan, chain = begun(Store(folder / "store"), "killed")
    again = go_on(plan, chain, engine_of(folder, owner), owner=owner)
    assert again.final_digest == result.final_digest
    assert [one.model for one in again.records] == [one.model for one in result.records]
    assert owner.ledger.charges() == before


def test_nothing_is_stored_before_it_is_charged(whole, tmp_path):
    folder, owner = whole[0], Owner(tmp_path)
    fork(Store(folder / "store"), "run", 0, {}, "cut")
    store = Fragile(folder / "store")
    store.left = 2
    with pytest.raises(Killed):
        go_on(*begun(store, "cut"), engine_of(folder, owner), owner=owner)
    charges = owner.ledger.charges()
    assert list(Counter(one.key for one in charges).values()) == [1, 2, 3]
    released = dict.fromkeys(one.released for one in charges)
    assert [store.holds(Ref(one, 1, "model")) for one in released] == [True, True, False]


def test_a_budget_ends_a_run_before_the_round_that_would_pass_it(whole, tmp_path):
    folder, noise = whole[0], calibrate(5.0, 1e-5, 1.0, 3)
    budget = Budget(epsilon(1.0, noise, 2, 1e-5).value * 1.001, 1e-5)
    owner = Owner(tmp_path, budget)
    plan, chain = fork(Store(folder / "store"), "run", 0, {}, "bound")
    with pytest.raises(BudgetExceeded, match="Nothing is released"):
        go_on(plan, chain, engine_of(folder, owner), owner=owner)
    assert len(list(chain.records())) == 6  # two participations of each group are paid for
    assert len({one.key for one in owner.ledger.charges()}) == 6


def test_a_fork_goes_on_from_the_noise_it_shares_and_pays_for_what_it_shows_again(whole):
    folder, plan, result, owner = whole
    store = Store(folder / "store")
    before = len({charge.key for charge in owner.ledger.charges()})
    told = owner.ledger.spent(plan.identity["partition"], 1e-5).value
    changes = {"training.learning_rate": 0.01}
    child = go_on(*fork(store, "run", 4, changes, "child"), engine_of(folder, owner), owner=owner)
    assert noise_names(folder, child.records[6])[:4] == noise_names(folder, result.records[3])
    ours, theirs = noise_names(folder, child.records[6]), noise_names(folder, result.records[6])
    assert not set(ours[4:]) & set(theirs[4:])
    assert child.final_digest != result.final_digest
    assert [len(one.privacy) for one in child.records] == [1, 2, 3, 3, 3, 3, 3]
    assert len({charge.key for charge in owner.ledger.charges()}) == before + 3
    # The rows after the fork show the rounds before it once more: more than one run has told.
    assert owner.ledger.spent(plan.identity["partition"], 1e-5).value > told
    again = go_on(*fork(store, "run", 4, changes, "twin"), engine_of(folder, owner), owner=owner)
    assert again.final_digest == child.final_digest  # and the same fork is free


def test_noise_starts_anew_where_its_cost_would_be_another(whole):
    folder, _, _, owner = whole
    store = Store(folder / "store")
    for name, changes in {
        "other-groups": {"participation.groups": 2},
        "fixed": {"privacy.secret": "fixed"},
    }.items():
        child = go_on(*fork(store, "run", 5, changes, name), engine_of(folder, owner), owner=owner)
        assert len(noise_names(folder, child.records[-1])) == 2
    plain = {"privacy.correlation": "none", "participation": {"kind": "everybody"}}
    plan, chain = fork(store, "run", 5, plain, "plain")
    child = go_on(plan, chain, engine_of(folder, owner), owner=owner)
    assert child.records[-1].state is None
    # All clients pay for the last two rounds, on top of what each group paid before.
    spent = spending(plan.config, json_of(child))
    own = spending(plan.config, json_of(child)[:5])
    assert spent.overall.value > own.overall.value
    event = spent.events[""][0]
    assert spent.overall.value > epsilon(1.0, event.noise_multiplier, 2, 1e-5).value


def test_noise_starts_anew_after_a_round_that_is_not_in_it(tmp_path):
    config = config_of(privacy__epsilon=None, privacy__noise_multiplier=1.0)
    mechanism = client_mechanism(config, {"a": 1, "b": 1}, {})
    owner, state = Owner(tmp_path), {}

    def earlier(round, parts=("body",)):
        nonlocal state
        how = {"round": round, "parts": parts, "state": state}
        found = client_round(config, mechanism, "data", "base", [], owner, **how)
        state = found.state
        return len(found.earlier), [who for who, _ in found.told]

    assert earlier(1) == (0, ["group 1 of 3"])
    assert earlier(2) == (1, ["group 2 of 3", "group 1 of 3"])
    assert earlier(4) == (0, ["group 1 of 3"])  # in between it was another mechanism's
    assert earlier(5, ("head",)) == (0, ["group 2 of 3"])  # its noise has another shape


def test_a_longer_run_goes_on_from_the_noise(whole, tmp_path):
    folder, owner = whole[0], Owner(tmp_path)
    store, engine = Store(folder / "store"), engine_of(folder, owner)
    short = {"rounds.count": 3, "privacy.epsilon": None, "privacy.noise_multiplier": 2.0}
    go_on(*fork(store, "run", 0, short, "short"), engine, owner=owner)
    plan, chain = extend(store, "short", 4, "longer")
    longer = go_on(plan, chain, engine, owner=owner)
    assert len(noise_names(folder, longer.records[-1])) == 4
    spent = spending(plan.config, json_of(longer))
    assert epsilon(1.0, 2.0, 1, 1e-5).value < spent.overall.value
    assert spent.overall.value < epsilon(1.0, 2.0, 2, 1e-5).value


def test_an_adaptive_clip_norm_and_a_fixed_secret(whole, tmp_path):
    folder, owner, results = whole[0], Owner(tmp_path), []
    store, engine = Store(folder / "store"), engine_of(folder, owner)
    changes = {"privacy.quantile": 0.5, "privacy.secret": "fixed", "strategy.kind": "fedavgm"}
    for name in ("one", "two"):
        banded._latest.clear()
        plan, chain = fork(store, "run", 0, changes, name)
        results.append(go_on(plan, chain, engine, owner=owner))
    assert results[0].final_digest == results[1].final_digest and not owner.ledger.charges()
    spent = spending(plan.config, json_of(results[0]))
    assert str(spent).startswith("none (not private") and spent.overall.value < 5.0
    # clip norm and noise outlast a fork, even into another server optimizer
    plan, _ = fork(store, "one", 6, {"strategy.kind": "fedavg"}, "child-of-one")
    held = store.get_arrays(plan.origin.state)
    assert sorted(held) == ["privacy.clip_norm", "privacy.noise", "privacy.noise_names"]


def test_who_will_not_be_asked_again_is_not_warned_about(whole):
    _, plan, result, _ = whole
    records = json_of(result)
    said = [" ".join(warnings_about(plan.config, records[:r])) for r in range(1, ROUNDS + 1)]
    assert "group 1 of 3 may pay for one more round" in said[3]
    assert not any("cannot pay" in one for one in said) and not said[-1]


def test_groups_of_one_family_share_nobody_and_those_of_two_do():
    a, b, c = (SampledGaussian(1.0, noise) for noise in (1.0, 2.0, 3.0))
    paid = {"group 1 of 2": (a,), "group 2 of 2": (b, b), "group 3 of 5": (c,), "": (c,)}
    assert sorted(events_about("group 2 of 2", paid), key=str) == [b, b, c, c]
    assert sorted(events_about("group 4 of 5", paid), key=str) == [a, c]
    assert sorted(events_about("", paid), key=str) == [a, c, c]
    assert events_about("group 1 of 9", {}) == ()


def test_a_ledger_adds_up_seeds_and_takes_the_largest_group(tmp_path):
    ledger, event = Ledger(tmp_path / "ledger.jsonl"), SampledGaussian(1.0, 3.0)

    def pay(key, seed, round):
        data = payer_fingerprint("d" * 64, seed, payer(round, 4))
        ledger.charge(Charge(key, data, event, "0" * 64))

    for round in (1, 2, 3, 4):
        pay(f"a{round}", 1, round)
    assert ledger.spent("d" * 64, 1e-5) == epsilon(1.0, 3.0, 1, 1e-5)
    pay("b", 2, 3)  # of another seed: other groups, which may have the same clients
    assert ledger.spent("d" * 64, 1e-5) == epsilon(1.0, 3.0, 2, 1e-5)
    assert ledger.spent("e" * 64, 1e-5).value == 0


def test_records_of_clients_in_turn_need_noise_for_their_rounds_only(whole):
    changes = {"privacy": {"kind": "example", "epsilon": 5.0}}
    plan, _ = fork(Store(whole[0] / "store"), "run", 0, changes, "records")
    job = plan.train_jobs(1, plan.initial.params, plan.cohort(1))[0]
    how = job.settings["privacy"]
    expected = calibrate(5.0, 1e-5, how["sampling_rate"], 3 * how["steps"])
    assert how["noise_multiplier"] == expected


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"participation": {"kind": "poisson", "sampling_probability": 0.5}},
            "its epsilon is not known then",
        ),
        ({"participation": {"kind": "fixed", "cohort_size": 2}}, "poisson, cyclic or everybody"),
    ],
)
def test_what_cannot_be_accounted_for_is_refused(changes, why):
    with pytest.raises(ValueError, match=why):
        config_of(**changes)


def test_a_group_that_is_too_small_is_refused_before_the_first_round(tmp_path):
    config = config_of(rounds__min_clients=9)
    with pytest.raises(ValueError, match=r"min_clients=9 is more than the [1-3] clients"):
        run(tmp_path, config)


def test_removing_a_client_moves_nobody_else():
    asking, coin = config_of().participation, public_coin(3)
    clients = [f"client-{i}" for i in range(300)]
    sizes = []
    for round in range(1, 7):
        cohort = asking.build()(clients, round, coin)
        assert cohort == asking.build()(clients, round + GROUPS, coin)
        without = asking.build()(clients[1:], round, coin)
        assert set(cohort) - {"client-0"} == set(without)
        sizes.append(len(cohort))
    assert sum(sizes[:3]) == 300 and min(sizes) > 60 and asking.expected(300) == 100
    assert asking.least(clients, coin) == min(sizes)
