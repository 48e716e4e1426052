"""Late updates in the mean, in the records, and played again from them."""

from dataclasses import replace

import numpy as np
import pytest

from fedcore.aggregate import aggregate
from fedcore.chain import Chain
from fedcore.config import make_config
from fedcore.facts import came_back
from fedcore.global_model import GlobalModel
from fedcore.jobs import JobKind
from fedcore.outcomes import Absent, ClientUpdate, Done, Evaluation, outcome_from_json
from fedcore.partition.make import make_partition
from fedcore.plan import prepare
from fedcore.refs import Ref
from fedcore.report.tables import round_table
from fedcore.rounds import run_rounds
from fedcore.staleness import MOST_STALENESS, discount
from fedcore.store import Store


def test_a_discount_needs_a_round_that_was():
    with pytest.raises(ValueError, match="staleness=-1 rounds"):
        discount(-1)


def test_a_model_knows_what_its_rounds_started_from():
    model = GlobalModel(0, Ref("0" * 64, 1, "model"))
    for round in range(1, MOST_STALENESS + 5):
        model = model.then(Ref(f"{round:064x}", 1, "model"), None)
    assert model.base(0) == model.params.digest and model.base(2) == f"{model.round - 2:064x}"
    assert model.base(MOST_STALENESS) and model.base(MOST_STALENESS + 1) is None
    assert model.base(-1) is None


@pytest.mark.parametrize("weighting", ["examples", "uniform"])
def test_a_late_update_counts_less_and_only_from_the_model_of_its_round(weighting):
    store = Store("memory://stale")
    models = [store.put_arrays({"w": np.full(1, n, np.float32)}, "model") for n in range(4)]
    parent = GlobalModel(0, models[0])
    for model in models[1:]:
        parent = parent.then(model, None)

    def update(value, count, base, staleness):
        delta = store.put_arrays({"w": np.array([value], np.float32)}, "delta")
        return ClientUpdate(models[base].digest, delta, count, staleness=staleness)

    updates = [("a", update(1.0, 10, 3, 0)), ("b", update(4.0, 30, 0, 3))]
    algorithm = make_config({}).strategy.build()
    result = aggregate(store, algorithm, parent, updates, weighting=weighting)
    weights = np.array([10, 30 / 2] if weighting == "examples" else [1, 1 / 2])
    expected = np.float32(3 + (weights * [1, 4]).sum() / weights.sum())
    assert store.get_arrays(result.model.params)["w"] == [expected] and not result.refused
    for base, staleness in ((0, 2), (3, 1), (0, 4), (3, -1)):
        wrong = [updates[0], ("b", update(4.0, 30, base, staleness))]
        result = aggregate(store, algorithm, parent, wrong, weighting=weighting)
        assert "another model" in result.refused["b"]


class OneIsLate:
    """The first client answers each odd round in the round after."""

    def __init__(self, store):
        self.store, self.late = store, {}

    def run(self, jobs):
        for job in jobs:
            if job.kind is JobKind.EVALUATE:
                yield job, Done(job.client, job.key, Evaluation(5, {"accuracy": 0.5}))
                continue
            base = self.store.get_arrays(job.base)
            step = 0.1 * job.round * (1 + int(job.client[-1]))
            delta = {name: np.full_like(value, step) for name, value in base.items()}
            ref = self.store.put_arrays(delta, "delta")
            done = Done(job.client, job.key, ClientUpdate(job.base.digest, ref, 10 * job.round))
            if not job.client.endswith("0"):
                yield job, done
            elif job.round % 2:
                self.late = {job.round: done}
                yield job, Absent(job.client, job.key)
            else:
                done = self.late[job.round - 1]
                yield job, replace(done, result=replace(done.result, staleness=1))


def rebuilt(row, parent):
    """An update from its row in a record."""
    staleness, ref = row.get("staleness", 0), Ref(row["update"], row["bytes_up"], "delta")
    return ClientUpdate(parent.base(staleness), ref, row["num_examples"], staleness=staleness)


@pytest.mark.slow
def test_the_records_give_the_models_again(tmp_path):
    sections = {
        "partition": {"kind": "iid", "clients": 3},
        "rounds": {"count": 4, "keep_updates": "all"},
    }
    sections["strategy"] = {"kind": "fedadam", "server_learning_rate": 0.05}
    config, store = make_config(sections), Store(tmp_path / "store")
    dataset = config.data.load(None)
    plan = prepare(config, dataset, make_partition(dataset, config.partition, config.seed), store)
    chain, facts = Chain(store, "run"), []
    chain.begin(plan.header())
    engine = OneIsLate(store)
    rounds = run_rounds(plan, chain, engine, facts.append)
    first = next(rounds)
    rounds.close()
    records = [first, *run_rounds(plan, chain, engine, facts.append)]  # taken up from the chain
    late = plan.federation.ids[0]
    assert [one.outcomes[late].get("staleness") for one in records] == [None, 1, None, 1]
    assert records[1].outcomes[late]["job"] != records[0].outcomes[plan.federation.ids[1]]["job"]
    assert "done, 1 late" in round_table(records[1].to_json())
    parent = plan.initial
    for record in chain.records():
        assert parent.params == record.parent
        updates = [
            (client, rebuilt(row, parent))
            for client, row in record.outcomes.items()
            if row["status"] == "done"
        ]
        again = aggregate(store, plan.algorithm, parent, updates, weighting="examples")
        assert (again.model.params, again.model.state, again.refused) == (
            record.model,
            record.state,
            {},
        )
        parent = parent.then(record.model, record.state)


def test_events_say_how_late_an_update_is():
    class Job:
        round, client = 3, "a"

    update = ClientUpdate("b" * 64, Ref("d" * 64, 9, "delta"), 10)
    for staleness, said in ((0, {}), (2, {"staleness": 2})):
        done = Done("a", "k" * 64, replace(update, staleness=staleness))
        assert list(came_back(Job, done))[-1].metrics == said


def test_an_outcome_from_before_there_were_late_ones_is_read():
    value = {"base": "b" * 64, "delta": {"digest": "d" * 64, "size": 9, "kind": "delta"}}
    value |= {"num_examples": 3, "metrics": {}, "kind": "update"}
    done = {"client": "a", "key": "k" * 64, "status": "done", "result": value}
    assert outcome_from_json(done).result.staleness == 0
