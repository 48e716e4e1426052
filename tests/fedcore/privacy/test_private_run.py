"""Privacy in a whole run: what is promised, charged, recorded and refused."""

import dataclasses
import json

import numpy as np
import pytest

from fedcore.chain import Chain
from fedcore.config import make_config
from fedcore.engines.in_process import InProcessEngine
from fedcore.execute import execute
from fedcore.outcomes import Done, Refused
from fedcore.privacy import calibrate, epsilon
from fedcore.privacy.owner import NoOwner, Owner
from fedcore.privacy.spending import spending, warnings_about
from fedcore.report.tables import round_table
from fedcore.run import run_federated
from fedcore.store import Store

BASE = {
    "data": {"kind": "breast_cancer"},
    "model": {"kind": "logistic"},
    "partition": {"kind": "iid", "clients": 3},
    "preprocessing": {"standardise": "none"},
    "rounds": {"count": 2},
    "evaluation": {"splits": ["test"]},
}
LOOP = {"kind": "loop"}
EXAMPLE = {"privacy": {"kind": "example", "epsilon": 6.0}}
CLIENT = {
    "privacy": {"kind": "client", "noise_multiplier": 1.0},
    "aggregation": {"weighting": "uniform"},
    "evaluation": {"splits": ["test"], "clients": False},
}


def config_of(**sections):
    return make_config({**BASE, **sections})


def run(folder, config, run_id="run"):
    store, owner = Store(folder / "store"), Owner(folder / "privacy")
    engine = InProcessEngine(store, folder / "cache", owner)
    plan, result = run_federated(config, store=store, engine=engine, run_id=run_id, owner=owner)
    return owner, plan, result


def test_the_noise_follows_from_each_clients_size_and_the_run_ends_at_its_epsilon(tmp_path):
    config = config_of(**EXAMPLE)
    owner, plan, result = run(tmp_path, config)
    for job in plan.train_jobs(1, plan.initial.params, plan.federation.ids):
        size = plan.federation.clients[job.client].sizes["train"]
        private = job.settings["privacy"]
        assert private["sampling_rate"] == min(1, config.training.batch_size / size)
        steps = 2 * private["steps"]
        assert private["noise_multiplier"] == calibrate(6.0, 1e-5, private["sampling_rate"], steps)
    records = [one.to_json() for one in result.records]
    spent = spending(config, records)
    assert set(spent.spent) == set(plan.federation.ids)
    assert 5.9 < spent.overall.value <= 6.0
    # the owner's ledger and the chain tell the same
    for client, held in plan.federation.clients.items():
        charged = owner.ledger.spent(held.blobs["train"].digest, 1e-5)
        assert charged == spent.spent[client]


def test_a_run_again_is_free_and_gives_the_same_bytes(tmp_path):
    config = config_of(**EXAMPLE)
    owner, _, first = run(tmp_path, config)
    charges = owner.ledger.charges()
    _, _, again = run(tmp_path, config, "again")
    assert again.final_digest == first.final_digest
    assert owner.ledger.charges() == charges and len(charges) == 6


def test_bytes_are_of_the_owners_secret_and_a_fixed_one_says_not_private(tmp_path):
    config = config_of(**EXAMPLE)
    digests = {run(tmp_path / name, config)[2].final_digest for name in ("a", "b")}
    assert len(digests) == 2
    fixed = config_of(privacy={**EXAMPLE["privacy"], "secret": "fixed"})
    results = [run(tmp_path / name, fixed) for name in ("c", "d")]
    assert results[0][2].final_digest == results[1][2].final_digest
    assert not results[0][0].ledger.charges()
    spent = spending(fixed, [one.to_json() for one in results[0][2].records])
    assert str(spent).startswith("none (not private")
    assert any("Not private" in one for one in results[0][1].warnings)


def test_a_repeated_job_finds_its_charge_and_releases_the_same_bytes(tmp_path):
    """As after a kill between the charge and the release."""
    owner, plan, _result = run(tmp_path, config_of(**EXAMPLE))
    job = plan.train_jobs(1, plan.initial.params, plan.federation.ids)[0]
    (charge,) = [one for one in owner.ledger.charges() if one.key == job.key]
    store = Store(tmp_path / "store")
    for lost in (f"memo/{job.key[:2]}/{job.key}.json", f"blobs/{charge.released[:2]}/"):
        for path in (tmp_path / "store").rglob("*"):
            if path.is_file() and str(path.relative_to(tmp_path / "store")).startswith(lost):
                path.unlink()
    again = execute(job, store, tmp_path / "cache", owner)
    assert isinstance(again, Done) and again.result.delta.digest == charge.released
    assert len(owner.ledger.charges()) == 6


def test_other_bytes_for_a_charged_job_are_not_released(tmp_path):
    owner, plan, _ = run(tmp_path, config_of(**EXAMPLE))
    job = plan.train_jobs(1, plan.initial.params, plan.federation.ids)[0]
    fresh = Store(tmp_path / "other")
    store = Store(tmp_path / "store")
    for ref in (job.base, job.data):
        fresh.put(store.get(ref), ref.kind)
    (tmp_path / "privacy" / "secret").write_bytes(b"s" * 32)  # other noise: other bytes
    outcome = execute(job, fresh, tmp_path / "cache", owner)
    assert outcome.status == "failed" and "other bytes" in outcome.reason
    assert not list((tmp_path / "other").glob("memo/*/*"))


def test_a_budget_refuses_before_the_work_and_nothing_is_charged(tmp_path):
    config = config_of(privacy={"kind": "example", "noise_multiplier": 1.0, "data_budget": 1e-3})
    with pytest.raises(RuntimeError, match=r"0 of 3 clients finished.*the budget is 0\.001"):
        run(tmp_path, config)
    assert not Owner(tmp_path / "privacy").ledger.charges()


def test_a_budget_over_several_runs(tmp_path):
    config = config_of(privacy={"kind": "example", "noise_multiplier": 1.0})
    owner, _plan, result = run(tmp_path, config)
    told = spending(config, [one.to_json() for one in result.records]).overall.value
    bound = {"kind": "example", "noise_multiplier": 1.0, "data_budget": told * 1.05}
    other = config_of(privacy=bound, training={"kind": "loop", "learning_rate": 0.01})
    with pytest.raises(RuntimeError, match="clients finished"):
        run(tmp_path, other, "other")  # another run, the same records
    assert len(owner.ledger.charges()) == 6


def test_the_owners_own_bound_counts_before_that_of_the_run(tmp_path):
    from fedcore.privacy.budget import Budget

    _, plan, _ = run(tmp_path / "a", config_of(**EXAMPLE))
    job = plan.train_jobs(1, plan.initial.params, plan.federation.ids)[0]
    job = dataclasses.replace(job, data_budget={"epsilon": 1e6, "delta": 1e-5})
    strict = Owner(tmp_path / "strict", Budget(1e-3, 1e-5), "all records")
    outcome = execute(job, Store(tmp_path / "a" / "store"), tmp_path / "cache", None)
    assert isinstance(outcome, Done) and outcome.reused
    (tmp_path / "a" / "store" / "memo").rename(tmp_path / "away")
    outcome = execute(job, Store(tmp_path / "a" / "store"), tmp_path / "cache", strict)
    assert isinstance(outcome, Refused) and "data all records" in outcome.reason


def test_without_an_owner_nothing_private_is_done(tmp_path):
    store = Store(tmp_path / "store")
    engine = InProcessEngine(store, tmp_path / "cache")
    with pytest.raises(RuntimeError, match="give it owner=Owner"):
        run_federated(config_of(**EXAMPLE), store=store, engine=engine, run_id="r")
    with pytest.raises(NoOwner, match="coordinator's secret and ledger"):
        run_federated(config_of(**CLIENT), store=store, engine=engine, run_id="c")


def test_each_update_by_itself(tmp_path):
    """Local privacy: the update that leaves is at most clip_norm and noise of the stated size."""
    privacy = {"kind": "local", "epsilon": 4.0, "clip_norm": 0.5}
    config = config_of(privacy=privacy)
    _owner, plan, result = run(tmp_path, config)
    job = plan.train_jobs(1, plan.initial.params, plan.federation.ids)[0]
    noise = job.settings["privacy"]["noise_multiplier"]
    # two data sets can be 2 clip_norm apart
    assert epsilon(1.0, noise / 2, 2, 1e-5).value == pytest.approx(4.0, rel=1e-3)
    assert "client's data" in str(spending(config, [one.to_json() for one in result.records]))
    assert not any(row["metrics"] for one in result.records for row in one.outcomes.values())


def test_hidden_clients(tmp_path):
    config = config_of(**CLIENT, participation={"kind": "poisson", "sampling_probability": 0.5})
    owner, _, result = run(tmp_path, config)
    records = [one.to_json() for one in result.records]
    spent = spending(config, records)
    assert spent.overall.value == epsilon(0.5, 1.0, 2, 1e-5).value
    assert len(owner.ledger.charges()) == 2
    for record in result.records:
        assert [one["client"] for one in record.privacy] == [""]
        for row in record.outcomes.values():
            assert "num_examples" not in row and "metrics" not in row
        table = round_table(record.to_json(), spent=spent)
        assert "per client" in table and "epsilon spent |" not in table
    assert result.final_digest != run(tmp_path / "other", config)[2].final_digest


def test_a_round_that_drew_nobody_is_noise_alone(tmp_path):
    config = config_of(**CLIENT, participation={"kind": "poisson", "sampling_probability": 1e-9})
    owner, plan, result = run(tmp_path, config)
    assert not result.records[0].cohort
    store = Store(tmp_path / "store")
    before = store.get_arrays(plan.initial.params)
    after = store.get_arrays(result.records[0].model)
    moved = np.concatenate([(after[name] - before[name]).ravel() for name in before])
    assert moved.all() and np.isfinite(moved).all()
    assert len(owner.ledger.charges()) == 2


def test_tables_and_warnings_say_how_much_is_left(tmp_path):
    config = config_of(privacy={"kind": "example", "noise_multiplier": 1.0})
    _, _, result = run(tmp_path, config)
    records = [one.to_json() for one in result.records]
    first = spending(config, records[:1]).overall.value
    total = spending(config, records).overall.value

    def said(budget, count):
        privacy = {"kind": "example", "noise_multiplier": 1.0, "data_budget": budget}
        longer = config_of(privacy=privacy, rounds={"count": 5})
        table = round_table(records[count - 1], spent=spending(longer, records[:count]))
        return table, " ".join(warnings_about(longer, records[:count]))

    table, warned = said(2 * total, 1)
    assert f"| {first:.3f} | {2 * total - first:.3f} | ok |" in table and not warned
    table, warned = said(total * 1.0001, 1)  # the second round is the last that can be paid
    assert "| warning |" in table and "may pay for one more round, or told more than 80%" in warned
    table, warned = said(total * 1.0001, 2)
    assert "| exhausted |" in table and "cannot pay for one more round" in warned


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        (
            {**EXAMPLE, "training": {**LOOP, "class_weights": "client"}},
            "looks at the labels outside",
        ),
        (
            {**EXAMPLE, "training": {**LOOP, "max_grad_norm": 1.0}},
            "a second time; set it to null",
        ),
        ({**CLIENT, "participation": {"kind": "fixed", "cohort_size": 2}}, "half of the true"),
        ({**CLIENT, "evaluation": {"clients": True}}, "set it to false"),
        ({**CLIENT, "aggregation": {"weighting": "examples"}}, "unbounded weights"),
        (
            {**CLIENT, "engine": {"kind": "sites", "late": "stale"}},
            "count twice in a round",
        ),
        ({"privacy": {"kind": "example", "epsilon": 1, "noise_multiplier": 1}}, "both set"),
    ],
)
def test_promises_that_cannot_be_kept_are_refused(sections, why):
    with pytest.raises(ValueError, match=why):
        make_config({**BASE, **sections})


def test_the_secret_is_nowhere_but_in_its_file(tmp_path):
    owner, _, _ = run(tmp_path, config_of(**EXAMPLE))
    secret = (tmp_path / "privacy" / "secret").read_bytes()
    assert (tmp_path / "privacy" / "secret").stat().st_mode & 0o077 == 0
    assert secret.hex() not in json.dumps(owner.to_json())
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "secret":
            data = path.read_bytes()
            assert secret not in data and secret.hex().encode() not in data
    header = Chain(Store(tmp_path / "store"), "run").header()
    assert secret.hex() not in json.dumps(header)
