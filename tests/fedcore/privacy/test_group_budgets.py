"""Groups of persons with budgets of their own, in a whole run: planned, charged, told, refused."""

import shutil

import numpy as np
import pytest
from dp_accounting import NeighboringRelation
from dp_accounting.pld import privacy_loss_distribution

from fedcore.config import make_config
from fedcore.engines.in_process import InProcessEngine
from fedcore.privacy import calibrate
from fedcore.privacy.checks import uncovered
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.ledger import Charge, Ledger, group_fingerprint
from fedcore.privacy.owner import Owner
from fedcore.privacy.private_job import events_of, private_settings
from fedcore.privacy.settings import ExampleLevel
from fedcore.privacy.spending import spending, warnings_about
from fedcore.report.tables import round_table
from fedcore.run import run_federated
from fedcore.store import Store

DELTA = 1e-5
BUDGETS = {"lax": 6.0, "strict": 2.0}
COUNT = 240


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An archive of 240 records, a third of which belong to strict persons."""
    path, rng = tmp_path_factory.mktemp("groups"), np.random.default_rng(0)
    inputs = rng.normal(size=(COUNT, 4))
    groups = np.where(np.arange(COUNT) % 3 == 0, "strict", "lax")
    np.savez(path / "own.npz", x=inputs, y=(inputs.sum(1) > 0).astype(int), g=groups)
    return path


def config_of(folder, kind="clip", *, privacy=None, data=None, **sections):
    groups = {"kind": kind, "epsilons": BUDGETS} if kind != "none" else {"kind": "none"}
    return make_config(
        {
            "data": {
                **{"kind": "arrays", "path": str(folder / "own.npz"), "task": "binary"},
                **{"inputs": "x", "targets": "y", "group": "g", "val_fraction": 0},
                **(data or {}),
            },
            "model": {"kind": "logistic"},
            "partition": {"kind": "iid", "clients": 2},
            "preprocessing": {"standardise": "none"},
            "training": {"kind": "loop", "batch_size": 24, "steps": 2},
            "rounds": {"count": 2},
            "evaluation": {"splits": ["test"]},
            "privacy": {"kind": "example", "groups": groups, **(privacy or {})},
            **sections,
        }
    )


def run(folder, config, run_id="run"):
    store, owner = Store(folder / "store"), Owner(folder / "privacy")
    engine = InProcessEngine(store, folder / "cache", owner)
    plan, result = run_federated(config, store=store, engine=engine, run_id=run_id, owner=owner)
    return owner, plan, result


def pld_epsilon(events):
    """By dp-accounting, of add or remove."""
    composed = None
    for event in events:
        one = privacy_loss_distribution.from_gaussian_mechanism(
            event.noise_multiplier,
            sampling_prob=event.sampling_rate,
            value_discretization_interval=1e-2,
            neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
        ).self_compose(event.steps)
        composed = one if composed is None else composed.compose(one)
    return composed.get_epsilon_for_delta(DELTA)


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """kind -> folder, owner, plan and result of a run; not to be changed."""
    runs = {}
    for kind in ("sampling", "clip"):
        path = tmp_path_factory.mktemp(kind)
        runs[kind] = (path, *run(path, config_of(folder, kind)))
    return runs


@pytest.mark.parametrize("kind", ["sampling", "clip"])
def test_each_group_spends_its_budget_and_the_ledger_has_it_by_group(kind, finished):
    _, owner, plan, result = finished[kind]
    config = plan.config
    assert config.privacy.epsilon == 6.0
    records = [one.to_json() for one in result.records]
    spent = spending(config, records)
    for client, held in plan.federation.clients.items():
        assert sum(held.groups.values()) == held.sizes["train"] and set(held.groups) == set(BUDGETS)
        for group, promised in BUDGETS.items():
            charges = owner.ledger.charges(group_fingerprint(held.blobs["train"].digest, group))
            assert len(charges) == 2
            told = pld_epsilon([one.event for one in charges])
            assert 0.97 * promised < told <= promised * 1.002
            charged = owner.ledger.spent(charges[0].data, DELTA)
            assert charged == spent.spent[f"{client}/{group}"] and charged.value <= promised
        assert owner.ledger.spent(held.blobs["train"].digest, DELTA).value > 5.8  # the lax group's
    assert spent.overall.value <= 6.0
    assert spent.by_group["strict"].value <= 2.0
    assert str(spent).endswith("; of groups: lax 6 of 6, strict 2 of 2")
    table = round_table(records[-1], spent=spent)
    told = [f"{group} {spent.spent[f'client-000/{group}'].value:.3f}" for group in BUDGETS]
    assert f"| {', '.join(told)} |" in table
    assert "exhausted" in table


@pytest.mark.parametrize("kind", ["sampling", "clip"])
def test_one_noise_for_all_and_shares_that_average_to_the_settings(kind, finished):
    _, _, plan, _ = finished[kind]
    (job, *_) = plan.train_jobs(1, plan.initial.params, plan.federation.ids)
    private, held = job.settings["privacy"], plan.federation.clients[job.client]
    stddev = private["noise_multiplier"] * private["clip_norm"]
    weights = {group: n / held.sizes["train"] for group, n in held.groups.items()}
    for terms in private["groups"].values():
        assert terms["noise_multiplier"] * terms["clip_norm"] == pytest.approx(stddev, rel=1e-12)
    for name in ("sampling_rate", "clip_norm"):
        mean = sum(weights[g] * terms[name] for g, terms in private["groups"].items())
        assert mean == pytest.approx(private[name], rel=2e-3)
    lax, strict = private["groups"]["lax"], private["groups"]["strict"]
    assert lax["sampling_rate"] >= strict["sampling_rate"]
    assert lax["clip_norm"] >= strict["clip_norm"] and lax != strict


def test_budgets_hold_over_runs_and_restarts(folder, finished, tmp_path):
    before, *_, first = finished["clip"]
    shutil.copytree(before, tmp_path, dirs_exist_ok=True)
    config, owner = config_of(folder), Owner(tmp_path / "privacy")
    charges = owner.ledger.charges()
    again = run(tmp_path, config, "again")[2]  # the same bytes are free
    assert again.final_digest == first.final_digest and owner.ledger.charges() == charges
    other = config_of(folder, training={"kind": "loop", "batch_size": 24, "steps": 1})
    with pytest.raises(RuntimeError, match=r"/lax: epsilon would be .* the budget is 6, of which"):
        run(tmp_path, other, "other")
    fresh = Ledger(owner.ledger.path)  # as another process reads it
    assert fresh.charges() == charges
    strict = next(one.data for one in charges if one.data.endswith("/strict"))
    assert fresh.spent(strict, DELTA).value <= 2.0


def test_one_group_that_cannot_pay_refuses_the_release_of_all(folder, finished, tmp_path):
    _, owner, plan, _ = finished["clip"]
    data = [held.blobs["train"].digest for held in plan.federation.clients.values()]
    ledger = Owner(tmp_path / "privacy").ledger
    for one in data:  # strict persons have told before
        event = SampledGaussian(1.0, calibrate(1.9, DELTA, 1.0, 1), 1)
        ledger.charge(Charge("old", group_fingerprint(one, "strict"), event, "0" * 64))
    with pytest.raises(RuntimeError, match="/strict: epsilon would be"):
        run(tmp_path, plan.config)
    assert {one.key for one in ledger.charges()} == {"old"}
    assert owner.ledger.charges()


def test_what_all_the_data_told_counts_for_each_group(folder, finished, tmp_path):
    """A run without groups before one with them, over the same records, and the other way round."""
    run(tmp_path / "a", config_of(folder, "none", privacy={"epsilon": 1.9}))
    with pytest.raises(RuntimeError, match=r"/strict: epsilon would be .*of which 1\.[89]"):
        run(tmp_path / "a", config_of(folder), "with-groups")
    shutil.copytree(finished["clip"][0], tmp_path / "b")
    bound = config_of(folder, "none", privacy={"epsilon": 1.5, "data_budget": 5.0})
    with pytest.raises(RuntimeError, match=r"/lax: epsilon would be .*budget is 5, of which 6"):
        run(tmp_path / "b", bound, "without-groups")


def test_the_state_warns_by_group_before_the_last_round(folder):
    event = SampledGaussian(1.0, calibrate(2.0, DELTA, 1.0, 2), 1)
    small = SampledGaussian(1.0, 100.0, 1)
    records = [
        {
            "privacy": [
                {"client": "c", "group": "lax", **small.to_json()},
                {"client": "c", "group": "strict", **event.to_json()},
            ]
        }
    ] * 2
    config = config_of(folder, rounds={"count": 5})
    spent = spending(config, records[:1])
    assert spent.state("c/strict") == "warning" and spent.state("c/lax") == "ok"
    assert spent.left("c/strict") == pytest.approx(2.0 - spent.spent["c/strict"].value)
    (said,) = warnings_about(config, records[:1])
    assert "c/strict may pay for one more round" in said and "of 2 (delta" in said
    (said,) = warnings_about(config, records)
    assert "c/strict cannot pay" in said
    record = {"round": 1, "outcomes": {"c": {"status": "done"}, "d": {"status": "failed"}}}
    table = round_table(record, spent=spent)
    assert "lax ok, strict warning" in table and "| d | failed |" in table


# --- limits -----------------------------------------------------------------------------------


def test_equal_budgets_are_plain_privacy():
    """The same noise, rate and bound as without groups, to the last bit."""
    config = make_config({"training": {"kind": "loop", "batch_size": 24, "steps": 2}})
    plain = private_settings(ExampleLevel(epsilon=3.0), config.training, 4, 96)
    for kind in ("sampling", "clip"):
        settings = ExampleLevel(groups={"kind": kind, "others": 3.0}, clip_norm=1.0)
        found = private_settings(settings, config.training, 4, 96, {"a": 90, "b": 6})
        assert {name: value for name, value in found.items() if name != "groups"} == plain
        for terms in found["groups"].values():
            for name in ("sampling_rate", "clip_norm", "noise_multiplier"):
                assert terms[name] == plain[name]
        assert set(events_of(found).values()) == set(events_of(plain).values())


def test_without_groups_a_job_says_what_it_said():
    """Not one key more: the noise of a job follows from its settings."""
    config = make_config({"training": {"kind": "loop", "batch_size": 24, "steps": 2}})
    found = private_settings(ExampleLevel(noise_multiplier=1.5), config.training, 4, 96, {"a": 96})
    assert found == {
        **{"kind": "example", "clip_norm": 1.0, "noise_multiplier": 1.5, "sampling_rate": 0.25},
        **{"steps": 2, "micro_batch": 256, "secret": "owner"},
    }


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("privacy", "message"),
    [
        ({"noise_multiplier": 1.0}, "noise follows from the groups' epsilons. Remove noise_mult"),
        ({"noise_multiplier": 0.0}, "noise follows from the groups' epsilons"),
        ({"epsilon": 4.0}, "groups may tell 6, which is more than epsilon=4 of the whole run"),
        ({"data_budget": 9.0}, "data_budget=9 .*budget of its records over all runs already"),
        ({"groups": {"kind": "clip"}}, "no group has a budget. Name each group's"),
        ({"groups": {"kind": "clip", "epsilons": {"a": 0.0}}}, "a.* greater than 0|above 0"),
        (
            {"groups": {"kind": "clip", "epsilons": {"a/b": 1.0}}},
            "'a/b', which cannot be the name",
        ),
        ({"kind": "local"}, "groups"),
        ({"kind": "client"}, "groups"),
    ],
)
def test_budgets_that_cannot_be_kept_are_refused(folder, privacy, message):
    with pytest.raises(ValueError, match=message):
        config_of(folder, privacy=privacy)


def test_sites_are_refused(folder):
    with pytest.raises(ValueError, match=r"which sites do not tell.*privacy_budget"):
        config_of(folder, engine={"kind": "sites"}, partition={"kind": "by_owner"})


@pytest.mark.parametrize(
    ("privacy", "data", "message"),
    [
        ({}, {"group": None}, r"needs each record's group of persons, and arrays has none"),
        (
            {"groups": {"kind": "clip", "epsilons": {"lax": 1.0}}},
            {},
            r"no budget for \['strict'\]. Name them under privacy.groups.epsilons, or set",
        ),
        (
            {"groups": {"kind": "clip", "epsilons": {"lax": 1.0, "Strict": 2.0}, "others": 1.0}},
            {},
            r"names \['Strict'\], which no training record of arrays is in.*\['lax', 'strict'\]",
        ),
    ],
)
def test_groups_that_the_data_do_not_have_are_refused(folder, tmp_path, privacy, data, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, config_of(folder, privacy=privacy, data=data))


def test_groups_are_named_as_not_covered_and_epsilon_is_that_of_the_laxest(folder):
    config = config_of(folder)
    assert config.privacy.epsilon == 6.0
    assert any("which group of persons a record is in" in one for one in uncovered(config))
    assert not any("group" in one for one in uncovered(config_of(folder, "none")))
    assert make_config(config.model_dump(mode="json")) == config


def test_audits_of_groups_are_refused(finished):
    from fedcore.attacks.client import attacked_client

    path, _, plan, _ = finished["clip"]
    rows = plan.federation.load(Store(path / "store"), "client-000", "train")
    with pytest.raises(ValueError, match="promises each group of persons its own epsilon"):
        attacked_client(plan, rows, "client-000")
