"""Rounds with invented clients: what is recorded, who is left out, what stops, what resumes."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fedcore.aggregate import aggregate
from fedcore.chain import Chain, RunTakenOver
from fedcore.config import make_config
from fedcore.events import silent
from fedcore.federation import CENTRAL
from fedcore.global_model import GlobalModel
from fedcore.jobs import JobKind
from fedcore.outcomes import Absent, ClientUpdate, Done, Evaluation, Failed
from fedcore.partition.make import make_partition
from fedcore.plan import RunPlan, prepare
from fedcore.rounds import EvaluationFailed, TooFewClients, run_rounds
from fedcore.run import choose_round, conclude
from fedcore.store import Store


class InventedClients:
    """Each client moves every parameter by ``step``; ``wrong`` says what some do instead."""

    def __init__(self, store, wrong=None, step=0.5):
        self.store, self.wrong, self.step = store, wrong or {}, step
        self.trained = []

    def run(self, jobs):
        for job in jobs:
            yield job, self.answer(job)

    def answer(self, job):
        if job.kind is JobKind.EVALUATE:
            return self.measured(job)
        self.trained.append((job.round, job.client))
        base = self.store.get_arrays(job.base)
        delta = {name: np.full_like(value, self.step) for name, value in base.items()}
        wrong = self.wrong.get(job.client)
        if wrong == "raises":
            return Failed(job.client, job.key, "RuntimeError: no luck")
        if wrong == "absent":
            return Absent(job.client, job.key)
        if wrong == "nan":
            next(iter(delta.values()))[...] = np.nan
        if wrong == "shape":
            delta = {name: value[..., None] for name, value in delta.items()}
        if wrong == "name":
            delta = {name + "x": value for name, value in delta.items()}
        digest = "0" * 64 if wrong == "stale" else job.base.digest
        ref = self.store.put_arrays(delta, "delta")
        return Done(job.client, job.key, ClientUpdate(digest, ref, 10, {"loss": 1.0}))

    def measured(self, job):
        scores = self.store.put(b"scores", "scores") if job.keep_scores else None
        return Done(job.client, job.key, Evaluation(5, {"accuracy": 0.5}, scores))


@pytest.fixture
def make(tmp_path):
    def plan_and_chain(run_id="run", **sections):
        sections = {
            "partition": {"kind": "iid", "clients": 4},
            "rounds": {"count": 2},
            **sections,
        }
        config = make_config(sections)
        store = Store(tmp_path / "store")
        dataset = config.data.load(None)
        partition = make_partition(dataset, config.partition, config.seed)
        plan = prepare(config, dataset, partition, store)
        chain = Chain(store, run_id)
        chain.begin(plan.header())
        return plan, chain

    return plan_and_chain


def moved(plan, chain, record):
    first = chain.store.get_arrays(plan.initial.params)
    last = chain.store.get_arrays(record.model)
    return {round(float(np.mean(last[name] - first[name])), 5) for name in first}


def test_all_clients_move_the_model_and_each_round_is_committed(make):
    plan, chain = make()
    records = list(run_rounds(plan, chain, InventedClients(chain.store), silent))
    assert [r.round for r in records] == [1, 2] and list(chain.records()) == records
    assert moved(plan, chain, records[-1]) == {1.0}
    assert records[0].cohort == plan.federation.ids and records[1].parent == records[0].model
    assert {row["status"] for row in records[0].outcomes.values()} == {"done"}


@pytest.mark.parametrize(
    ("wrong", "status", "reason"),
    [
        ("raises", "failed", "no luck"),
        ("absent", "absent", "no answer"),
        ("nan", "refused", "NaN or infinity"),
        ("shape", "refused", "the model has float32"),
        ("name", "refused", "tensors differ from the model: missing"),
        ("stale", "refused", "another model than this round's"),
    ],
)
def test_a_client_that_goes_wrong_is_recorded_and_left_out(make, wrong, status, reason):
    plan, chain = make()
    client = plan.federation.ids[1]
    engine = InventedClients(chain.store, {client: wrong})
    record = next(run_rounds(plan, chain, engine, silent))
    assert record.outcomes[client]["status"] == status
    assert reason in record.outcomes[client]["reason"]
    assert moved(plan, chain, record) == {0.5}
    assert sum(row["status"] == "done" for row in record.outcomes.values()) == 3


def test_too_few_clients_fail_the_run_with_every_reason(make):
    plan, chain = make(rounds={"count": 2, "min_clients": 3})
    wrong = {plan.federation.ids[0]: "raises", plan.federation.ids[1]: "nan"}
    with pytest.raises(TooFewClients, match=r"round 1: 2 of 4 .*min_clients is 3.*no luck.*NaN"):
        list(run_rounds(plan, chain, InventedClients(chain.store, wrong), silent))
    assert list(chain.records()) == []


def test_drawn_but_nobody_answered_is_a_failure_not_a_nan(make):
    plan, chain = make()
    wrong = dict.fromkeys(plan.federation.ids, "absent")
    with pytest.raises(TooFewClients, match="0 of 4 clients finished"):
        list(run_rounds(plan, chain, InventedClients(chain.store, wrong), silent))


def test_nobody_drawn_is_a_recorded_round_with_the_model_unchanged(make):
    plan, chain = make(participation={"kind": "poisson", "sampling_probability": 1e-9})
    records = list(run_rounds(plan, chain, InventedClients(chain.store), silent))
    assert [r.cohort for r in records] == [(), ()]
    assert records[-1].model == plan.initial.params


def test_excluded_clients_are_never_asked(make):
    plan, chain = make(rounds={"count": 1, "exclude_clients": ["client-002"]})
    engine = InventedClients(chain.store)
    list(run_rounds(plan, chain, engine, silent))
    assert [client for _, client in engine.trained] == ["client-000", "client-001", "client-003"]


def test_a_run_goes_on_where_its_chain_ends(make):
    plan, chain = make()
    engine = InventedClients(chain.store)
    rounds = run_rounds(plan, chain, engine, silent)
    first = next(rounds)
    rounds.close()
    again = RunPlan.from_header(chain.header())
    rest = list(run_rounds(again, chain, engine, silent))
    assert [r.round for r in rest] == [2] and rest[0].previous == first.digest
    assert [number for number, _ in engine.trained] == [1] * 4 + [2] * 4


def test_a_second_process_on_the_same_run_stops(make):
    plan, chain = make()
    engine = InventedClients(chain.store)
    mine = run_rounds(plan, chain, engine, silent)
    next(mine)
    other = run_rounds(plan, Chain(chain.store, "run"), InventedClients(chain.store), silent)
    next(other)  # round 2, committed by the other
    with pytest.raises(RunTakenOver):
        next(mine)


def test_the_engine_may_answer_in_any_order(make):
    class Reversed(InventedClients):
        def run(self, jobs):
            yield from reversed(list(super().run(jobs)))

    plan, chain = make()
    _, other = make("other")
    straight = list(run_rounds(plan, chain, InventedClients(chain.store), silent))
    backwards = list(run_rounds(plan, other, Reversed(chain.store), silent))
    assert [r.digest for r in straight] == [r.digest for r in backwards]


def test_uniform_and_example_weights():
    store = Store("memory://weights")
    parent = GlobalModel(0, store.put_arrays({"w": np.zeros(1, np.float32)}, "model"))
    updates = []
    for client, value, count in (("a", 1.0, 1), ("b", 4.0, 3)):
        ref = store.put_arrays({"w": np.array([value], np.float32)}, "delta")
        updates.append((client, ClientUpdate(parent.params.digest, ref, count)))
    algorithm = make_config({}).strategy.build()
    for weighting, expected in (("uniform", 2.5), ("examples", 3.25)):
        result = aggregate(store, algorithm, parent, updates, weighting=weighting)
        assert store.get_arrays(result.model.params)["w"] == [np.float32(expected)]


@pytest.mark.parametrize(("keep", "left"), [("all", 2), ("last", 1), ("none", 0)])
def test_updates_are_kept_as_asked(make, keep, left):
    plan, chain = make(rounds={"count": 2, "keep_updates": keep})

    class Growing(InventedClients):
        def answer(self, job):
            self.step = float(job.round)
            return super().answer(job)

    records = list(run_rounds(plan, chain, Growing(chain.store), silent))
    held = {digest for digest, _, _ in chain.store.blobs()}
    updates = {row["update"] for r in records for row in r.outcomes.values()}
    assert len(updates & held) == left and records[-1].model.digest in held


def record(number, accuracy):
    metrics = {"val": {"overall": {"accuracy": accuracy, "loss": -accuracy}}}
    return SimpleNamespace(round=number, metrics=metrics)


def test_the_best_round_is_chosen_on_validation_and_the_first_among_equals():
    records = [record(1, 0.5), record(2, 0.9), record(3, 0.9), record(4, 0.1)]
    assert choose_round(records, "last").round == 4
    assert choose_round(records, "accuracy").round == 2
    assert choose_round(records, "loss").round == 2
    with pytest.raises(ValueError, match="choose='auc' needs validation data"):
        choose_round(records, "auc")


def test_a_run_concludes_with_scores(make):
    plan, chain = make()
    engine = InventedClients(chain.store)
    list(run_rounds(plan, chain, engine, silent))
    result = conclude(plan, chain, engine)
    assert result.chosen.round == 2 and result.scores and len(result.final_digest) == 64


def test_a_failed_evaluation_of_a_client_is_told_and_of_the_central_data_stops(make):
    plan, chain = make()
    told = []

    class Unmeasured(InventedClients):
        at = "client-001"

        def measured(self, job):
            if job.client == self.at:
                return Failed(job.client, job.key, "no luck")
            return super().measured(job)

    records = list(run_rounds(plan, chain, Unmeasured(chain.store), told.append))
    assert "client-001" not in records[0].metrics["val"]["clients"]
    assert [e.message for e in told if e.type == "node_error"] == ["no luck"] * 4
    _, other = make("other")
    Unmeasured.at = CENTRAL
    with pytest.raises(EvaluationFailed, match="round 1 was not evaluated: no luck"):
        list(run_rounds(plan, other, Unmeasured(chain.store), silent))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"rounds": {"min_clients": 5}}, "min_clients=5 is more than the 4 clients"),
        (
            {"participation": {"kind": "fixed", "cohort_size": 9}},
            r"cohort_size=9 is more than partition\.clients=4",
        ),
        (
            {"participation": {"kind": "fixed", "cohort_size": 2}, "rounds": {"min_clients": 3}},
            "min_clients=3 is more than the 2 clients",
        ),
        (
            {"training": {"kind": "loop", "augmentation": {"kind": "light"}}},
            "'light' changes images; digits has inputs of kind 'table'",
        ),
        ({"evaluation": {"choose": "r2"}}, "'r2' is not measured in a multiclass task"),
        ({"rounds": {"exclude_clients": ["x"]}}, r"names \['x'\]; the clients are"),
        (
            {"evaluation": {"choose": "auc", "splits": ["test"]}},
            "choose='auc' needs a validation split",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused_before_training(make, sections, message):
    with pytest.raises(ValueError, match=message):
        make(**sections)


def test_the_plan_survives_its_header(make):
    plan, chain = make(training={"kind": "loop", "class_weights": "federation"})
    again = RunPlan.from_header(chain.header())
    base = plan.initial.params
    jobs = [p.train_jobs(1, base, p.federation.ids) for p in (plan, again)]
    assert [j.key for j in jobs[0]] == [j.key for j in jobs[1]]
    assert len({j.key for j in jobs[0]}) == 4


def test_what_the_job_key_depends_on(make):
    plan, _ = make()
    base = plan.initial.params
    job = plan.train_jobs(1, base, ["client-000"])[0]
    longer, _ = make("longer", rounds={"count": 9})
    assert longer.train_jobs(1, base, ["client-000"])[0].key == job.key
    fewer, _ = make("fewer", rounds={"count": 2, "exclude_clients": ["client-003"]})
    assert fewer.train_jobs(1, base, ["client-000"])[0].key == job.key
    for changes in ({"seed": 1}, {"round": 2}, {"client": "client-001"}, {"code": "x"}):
        assert replace(job, **changes).key != job.key
    other, _ = make("other", training={"kind": "loop", "learning_rate": 0.123})
    assert other.train_jobs(1, base, ["client-000"])[0].key != job.key
