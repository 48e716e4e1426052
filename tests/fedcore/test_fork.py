"""Forks: shared rounds cost nothing, the rest is as if done by hand, the parent is untouched."""

from pathlib import Path

import pytest

from fedcore.chain import Chain, ChainBroken
from fedcore.config import ConfigError, make_config
from fedcore.engines.in_process import InProcessEngine
from fedcore.execute import OtherCode
from fedcore.fork import ForkRefused, extend, fork
from fedcore.plan import RunPlan
from fedcore.report.history import curves_of
from fedcore.retention import collect
from fedcore.run import conclude, go_on, run_federated
from fedcore.store import Store

SECTIONS = {
    "data": {"kind": "digits", "limit": 200},
    "partition": {"kind": "iid", "clients": 3},
    "audit": {"remedy": "accept"},
    "model": {"kind": "mlp", "hidden": [8], "dropout": 0.2},
    "training": {"kind": "loop", "batch_size": 16, "learning_rate": 0.1},
    "strategy": {"kind": "fedadam", "server_learning_rate": 0.05},
    "rounds": {"count": 4},
}


class Counting:
    """An engine that notes every job it is given, answered by the memo or not."""

    def __init__(self, store):
        self.engine, self.jobs = InProcessEngine(store, Path(store.root + "-cache")), []

    def run(self, jobs):
        for job, outcome in self.engine.run(jobs):
            self.jobs.append((job.kind.value, job.round))
            yield job, outcome

    def rounds(self, kind):
        return {number for what, number in self.jobs if what == kind}


def run(store, run_id, **changes):
    config = make_config(SECTIONS, changes)
    return run_federated(config, store=store, engine=Counting(store), run_id=run_id)[1]


def finish(plan, chain):
    engine = Counting(chain.store)
    return go_on(plan, chain, engine), engine


def files(store, run_id):
    return {name: store.read(name) for name in store.names(f"runs/{run_id}")}


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("fork") / "store")
    return store, run(store, "parent")


def test_a_fork_without_change_ends_with_the_parents_digest_and_leaves_it_alone(parent):
    store, expected = parent
    before = files(store, "parent")
    result, engine = finish(*fork(store, "parent", 2, {}, "same"))
    assert result.final_digest == expected.final_digest
    assert [r.model for r in result.records] == [r.model for r in expected.records]
    assert engine.rounds("train") == {3, 4} and 2 not in engine.rounds("evaluate")
    assert files(store, "parent") == before
    origin = RunPlan.from_header(Chain(store, "same").header()).origin
    assert (origin.run, origin.round, origin.record) == ("parent", 2, expected.records[1].digest)


def test_its_whole_history_is_read_like_any_other(parent):
    store, expected = parent
    result, _ = finish(*fork(store, "parent", 3, {"evaluation.choose": "accuracy"}, "read"))
    best = max(expected.records, key=lambda r: (r.metrics["val"]["overall"]["accuracy"], -r.round))
    assert result.chosen.round == best.round and result.chosen.model == best.model
    curves = curves_of([r.to_json() for r in result.records])
    assert curves["val"]["accuracy"].rounds.tolist() == [1, 2, 3, 4]
    for note in ("audit", "partition-audit", "partition"):
        assert Chain(store, "read").annotation(note) == Chain(store, "parent").annotation(note)


def test_an_extension_trains_only_the_new_rounds_and_equals_an_undisturbed_run(parent, tmp_path):
    store, _ = parent
    result, engine = finish(*extend(store, "parent", 6, "longer"))
    assert engine.rounds("train") == {5, 6} and engine.rounds("evaluate") == {5, 6}
    alone = run(Store(tmp_path / "store"), "alone", **{"rounds.count": 6})
    assert result.final_digest == alone.final_digest
    assert [r.model for r in result.records] == [r.model for r in alone.records]


def test_changes_hold_from_the_next_round_as_if_done_by_hand(parent):
    store, expected = parent
    plan, chain = fork(store, "parent", 2, {"training.learning_rate": 0.01}, "slower")
    result, _ = finish(plan, chain)
    assert [r.model for r in result.records[:2]] == [r.model for r in expected.records[:2]]
    by_hand = make_config(SECTIONS, {"training.learning_rate": 0.01})
    jobs = RunPlan.from_header({**chain.header(), "config": by_hand.model_dump(mode="json")})
    record = result.records[2]
    keys = [job.key for job in jobs.train_jobs(3, expected.records[1].model, record.cohort)]
    assert keys == [record.outcomes[client]["job"] for client in record.cohort]
    assert result.final_digest != expected.final_digest
    assert plan.config.digest == by_hand.digest == plan.identity["config"]


def test_another_server_optimizer_starts_anew_and_the_same_one_goes_on(parent):
    store, expected = parent
    plan, chain = fork(store, "parent", 2, {"strategy.kind": "fedyogi"}, "yogi")
    assert plan.origin.state == expected.records[1].state  # the same names and shapes
    plan, chain = fork(store, "parent", 2, {"strategy.kind": "fedavg"}, "plain")
    assert plan.origin.state is None
    result, _ = finish(plan, chain)
    assert result.records[2].state is None
    kept = {"strategy.kind": "fedavgm", "strategy.momentum": 0.5}
    plan, chain = fork(store, "plain", 3, kept, "momentum")
    assert set(store.get_arrays(plan.origin.state)) == {
        f"momentum.{name}" for name in store.get_arrays(plan.initial.params)
    }
    assert finish(plan, chain)[0].records[3].state is not None


def test_a_fork_of_a_fork_names_all_its_ancestors(parent):
    store, _ = parent
    fork(store, "parent", 3, {}, "child")
    finish(*fork(store, "child", 2, {"rounds.count": 3}, "grandchild"))
    origin = RunPlan.from_header(Chain(store, "grandchild").header()).origin
    assert [(one.run, one.round) for one in origin.ancestors()] == [("child", 2), ("parent", 3)]


def test_a_fork_at_round_0_shares_data_and_first_model(parent):
    store, expected = parent
    result, engine = finish(*fork(store, "parent", 0, {}, "from-the-start"))
    assert result.final_digest == expected.final_digest and 1 in engine.rounds("train")


@pytest.mark.parametrize(
    ("at_round", "changes", "message"),
    [
        (5, {}, r"at_round=5, but run parent has 4 committed rounds; name one from 0 to 4"),
        (-1, {}, "at_round=-1"),
        (2, {"seed": 1}, r"seed=1 cannot change in a fork \(it is 0\): it decided the partition"),
        (2, {"data.limit": 300}, r"data\.limit=300 .*\(it is 200\).*Start a new run"),
        (2, {"partition.clients": 4}, r"partition\.clients=4 cannot change"),
        (2, {"model.hidden": [9]}, r"model\.hidden=\[9\] cannot change"),
        (2, {"audit.remedy": "stop"}, r"audit\.remedy='stop' cannot change"),
        (2, {"preprocessing.standardise": "none"}, r"preprocessing\.standardise='none'"),
        (3, {"rounds.count": 2}, r"rounds\.count=2 is fewer than the 3 rounds that are shared"),
    ],
)
def test_what_cannot_change_is_refused(parent, at_round, changes, message):
    store, _ = parent
    with pytest.raises(ForkRefused, match=message):
        fork(store, "parent", at_round, changes, "refused")
    assert files(store, "refused") == {}


def test_other_wrong_changes_are_refused_too(parent):
    store, _ = parent
    with pytest.raises(ConfigError, match=r"rounds\.cuont: unknown key"):
        fork(store, "parent", 1, {"rounds.cuont": 3}, "refused")
    with pytest.raises(ValueError, match=r"exclude_clients names \['x'\]"):
        fork(store, "parent", 1, {"rounds.exclude_clients": ["x"]}, "refused")
    with pytest.raises(ForkRefused, match="rounds=4 is not more than the 4 rounds of run parent"):
        extend(store, "parent", 4, "refused")
    with pytest.raises(LookupError, match="no run 'nobody'"):
        fork(store, "nobody", 1, {}, "refused")


def test_a_schedule_over_all_rounds_is_told(parent):
    store, _ = parent
    _, chain = extend(store, "parent", 5, "cosine", {"training.schedule": {"kind": "cosine"}})
    (told,) = chain.annotation("warnings")
    assert "depends on rounds.count: rounds 1 to 4 were trained with 4, later ones with 5" in told


def test_a_call_that_was_cut_off_is_completed_by_the_next(parent, monkeypatch):
    store, expected = parent
    append = Chain.append

    def dies(chain, record):
        if record.round == 2:
            raise KeyboardInterrupt
        append(chain, record)

    with monkeypatch.context() as cut:
        cut.setattr(Chain, "append", dies)
        with pytest.raises(KeyboardInterrupt):
            fork(store, "parent", 3, {}, "cut")
    assert not store.holds_name("runs/cut/header.json")
    result, _ = finish(*fork(store, "parent", 3, {}, "cut"))
    assert result.final_digest == expected.final_digest
    with pytest.raises(ChainBroken, match="run cut was started with another config"):
        fork(store, "parent", 3, {"training.learning_rate": 0.2}, "cut")


def test_a_broken_parent_is_refused(tmp_path):
    store = Store(tmp_path / "store")
    run(store, "parent", **{"rounds.count": 2})
    name = "runs/parent/rounds/000002.json"
    kept = store.read(name)
    store.write(name, kept.replace(b'"round":2', b'"round":3'))
    with pytest.raises(ChainBroken):
        fork(store, "parent", 1, {}, "child")
    store.write(name, kept)
    model = next(Chain(store, "parent").records()).model
    store.discard(model.digest)
    with pytest.raises(ForkRefused, match="the model to start from cannot be read"):
        fork(store, "parent", 1, {}, "child")


def test_a_store_keeps_what_a_fork_needs_when_its_parent_is_removed(tmp_path):
    store = Store(tmp_path / "store")
    expected = run(store, "parent", **{"rounds.count": 3})
    plan, chain = fork(store, "parent", 2, {}, "child")
    for name in store.names("runs/parent"):
        store.remove(name)
    collect(store, older_than_seconds=0)
    result, _ = finish(plan, chain)
    assert result.final_digest == expected.final_digest
    assert all(store.holds(record.model) for record in chain.records())


def test_a_run_of_other_code_goes_on_only_as_a_fork(parent, monkeypatch):
    store, expected = parent
    plan, chain = fork(store, "parent", 2, {}, "old")
    with monkeypatch.context() as newer:
        newer.setattr("fedcore.rounds.code_digest", lambda: "f" * 64)
        with pytest.raises(OtherCode, match=r"run old was planned.*--fork old --at-round 2"):
            go_on(plan, chain, Counting(store))
        done = RunPlan.from_header(Chain(store, "parent").header())
        assert conclude(done, Chain(store, "parent"), Counting(store)).records == expected.records
    finish(*fork(store, "old", 2, {}, "new"))
