"""Whole runs on the embedded digits: same bytes everywhere, nothing twice, damage undone."""

import errno
import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from fedcore.audit.audit import DataAuditFailed
from fedcore.chain import Chain
from fedcore.config import make_config
from fedcore.engines.in_process import InProcessEngine
from fedcore.engines.pooled import PooledEngine
from fedcore.execute import OtherCode, _cached_shard, execute
from fedcore.models.provided import provided
from fedcore.outcomes import Failed
from fedcore.run import run_federated
from fedcore.store import BlobAltered, Store
from fedcore.training.pool import WorkerPool

SECTIONS = {
    "data": {"kind": "digits", "limit": 400},
    "partition": {"kind": "dirichlet", "clients": 3, "alpha": 1.0},
    "audit": {"remedy": "drop-from-train"},
    "model": {"kind": "mlp", "hidden": [16], "dropout": 0.2},
    "training": {"kind": "loop", "batch_size": 16, "learning_rate": 0.2},
    "rounds": {"count": 2},
    "evaluation": {"choose": "accuracy"},
}


class Counting:
    """An engine that notes which jobs were not answered by the memo."""

    def __init__(self, engine):
        self.engine, self.done = engine, []

    def run(self, jobs):
        for job, outcome in self.engine.run(jobs):
            if job.kind == "train" and not getattr(outcome, "reused", False):
                self.done.append((job.round, job.client))
            yield job, outcome


def run(folder, run_id="run", engine=None, **changes):
    config = make_config(SECTIONS, changes)
    store = Store(folder / "store")
    counting = Counting(engine or InProcessEngine(store, folder / "cache"))
    plan, result = run_federated(config, store=store, engine=counting, run_id=run_id)
    return plan, result, counting.done


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    return folder, *run(folder)


def test_it_learns(reference):
    _, plan, result, _ = reference
    overall = result.evaluation["test"]["overall"]
    assert (
        overall["accuracy"] > 0.4
        and overall["num_examples"] == plan.federation.central_sizes["test"]
    )
    assert set(result.evaluation["val"]["clients"]) <= set(plan.federation.ids)
    assert result.scores is not None


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_worker_processes_give_the_same_final_digest(reference, tmp_path, workers):
    _, _, expected, _ = reference
    with WorkerPool(workers) as pool:
        engine = PooledEngine(str(tmp_path / "store"), tmp_path / "cache", pool)
        _, result, _ = run(tmp_path, engine=engine)
    assert result.final_digest == expected.final_digest
    assert [r.digest for r in result.records] == [r.digest for r in expected.records]


@pytest.mark.slow
def test_the_same_config_again_trains_nothing_and_more_rounds_train_only_those(reference):
    folder, _, expected, done = reference
    assert len(done) == 6
    _, again, repeated = run(folder, "again")
    assert repeated == [] and again.final_digest == expected.final_digest
    _, longer, more = run(folder, "longer", **{"rounds.count": 3})
    assert {number for number, _ in more} == {3}
    assert [r.model for r in longer.records[:2]] == [r.model for r in expected.records]


def test_dropping_a_client_redoes_only_what_depends_on_it(reference):
    folder, plan, _, _ = reference
    _, _, done = run(folder, "dropped", **{"rounds.exclude_clients": [plan.federation.ids[-1]]})
    assert {number for number, _ in done} == {2} and len(done) == 2


def test_another_seed_is_another_run(reference, tmp_path):
    _, _, expected, _ = reference
    assert run(tmp_path, **{"seed": 1})[1].final_digest != expected.final_digest


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["altered", "truncated", "gone"])
def test_a_damaged_update_is_found_and_done_again(reference, tmp_path, damage):
    _, _, expected, _ = reference
    run(tmp_path)
    row = Chain(Store(tmp_path / "store"), "run")
    update = next(row.records()).outcomes[sorted(next(row.records()).outcomes)[0]]["update"]
    blob = tmp_path / "store" / "blobs" / update[:2] / update
    data = blob.read_bytes()
    if damage == "gone":
        blob.unlink()
    else:
        blob.write_bytes(data[:-1] if damage == "truncated" else data[:-1] + bytes([data[-1] ^ 1]))
    _, result, done = run(tmp_path, "after")
    assert len(done) == 1 and result.final_digest == expected.final_digest


def test_a_damaged_shard_is_this_machines_trouble_and_no_clients(reference, tmp_path):
    plan, _, _ = run(tmp_path)
    digest = plan.federation.clients[plan.federation.ids[0]].blobs["train"].digest
    blob = tmp_path / "store" / "blobs" / digest[:2] / digest
    job = plan.train_jobs(2, plan.initial.params, plan.federation.ids[:1])[0]
    blob.write_bytes(blob.read_bytes()[:-1])
    _cached_shard.cache_clear()
    with pytest.raises(BlobAltered, match="is not used"):
        execute(job, Store(tmp_path / "store"), tmp_path / "cache")


def test_a_job_planned_by_other_code_is_not_done(reference):
    folder, plan, _, _ = reference
    job = replace(plan.train_jobs(9, plan.initial.params, plan.federation.ids[:1])[0], code="0")
    with pytest.raises(OtherCode, match="planned with code 0 and"):
        execute(job, Store(folder / "store"), folder / "cache")


@pytest.mark.parametrize(
    ("error", "is_raised"),
    [
        (OSError(errno.ENOSPC, "No space left"), True),
        (MemoryError(), True),
        (TimeoutError("a model's own"), False),
        (ZeroDivisionError("a model's own"), False),
    ],
)
def test_whose_trouble_an_error_is(reference, monkeypatch, error, is_raised):
    folder, plan, _, _ = reference

    def fails(*_args, **_more):
        raise error

    monkeypatch.setattr("fedcore.execute.train", fails)
    job = plan.train_jobs(9, plan.initial.params, plan.federation.ids[:1])[0]
    if is_raised:
        with pytest.raises(type(error)):
            execute(job, Store(folder / "store"), folder / "cache")
    else:
        outcome = execute(job, Store(folder / "store"), folder / "cache")
        assert isinstance(outcome, Failed) and "a model's own" in outcome.reason


@pytest.mark.slow
def test_a_killed_worker_costs_only_its_client_again(reference, tmp_path):
    _, _, expected, _ = reference
    with WorkerPool(2) as pool:
        engine = PooledEngine(str(tmp_path / "store"), tmp_path / "cache", pool)

        class Killing:
            killed = False

            def run(self, jobs):
                for job, outcome in engine.run(jobs):
                    if not self.killed:
                        self.killed = True
                        os.kill(pool.pids()[0], signal.SIGKILL)
                    yield job, outcome

        _, result, _ = run(tmp_path, engine=Killing())
    assert result.final_digest == expected.final_digest


def test_a_diverging_client_is_left_out(tmp_path):
    with pytest.raises(RuntimeError, match="TrainingDiverged"):
        run(tmp_path, **{"training.learning_rate": 1e30})


def test_an_audit_error_stops_before_any_training(tmp_path):
    with pytest.raises(DataAuditFailed, match="fewer than 10000 samples in train"):
        run(tmp_path, **{"audit.min_class_support": 10_000})
    assert not (tmp_path / "store" / "runs").exists()


def wide(task, input_shape, width=4):
    """A model from Python."""
    from torch import nn

    size = int(np.prod(input_shape))
    return nn.Sequential(nn.Linear(size, width), nn.Tanh(), nn.Linear(width, task.num_outputs))


def test_any_module_from_python_trains_in_this_process(tmp_path):
    changes = {"model": {"kind": "plugin", "name": "wide", "options": {"width": 6}}}
    config = make_config({**SECTIONS, **changes})
    store = Store(tmp_path / "store")
    engine = InProcessEngine(store, tmp_path / "cache")
    with provided(wide=wide):
        plan, result = run_federated(config, store=store, engine=engine, run_id="run")
    assert store.get_arrays(result.chosen.model)["0.weight"].shape == (6, 64)
    assert len(plan.identity["model"]["source"]) == 64
    with pytest.raises(ValueError, match="name='wide' is not an installed entry point"):
        run_federated(config, store=store, engine=engine, run_id="outside")
