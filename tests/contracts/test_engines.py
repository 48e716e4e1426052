"""Every engine gives the same bytes for every kind of local training; a new engine is one row."""

import numpy as np
import pytest

from fedcore.config import make_config
from fedcore.engines.in_process import InProcessEngine
from fedcore.engines.pooled import PooledEngine
from fedcore.run import run_federated
from fedcore.store import Store
from fedcore.training.pool import WorkerPool

DEIT = {"kind": "deit_tiny_random", "image_size": 16, "width": 12, "blocks": 1, "mode": "full"}
LOOP = {"kind": "loop", "batch_size": 8, "learning_rate": 0.05}
# name: (model, training, strategy); mobilenet and the Trainer draw from torch's global generator.
TRAININGS = {
    "perceptron, dropout, FedProx": (
        {"kind": "mlp", "hidden": [8], "dropout": 0.3},
        LOOP,
        {"kind": "fedprox", "mu": 0.1},
    ),
    "CNN, augmentation, class weights, FedYogi": (
        {"kind": "cnn_gn", "width": 4, "dropout": 0.2},
        {**LOOP, "augmentation": {"kind": "light"}, "class_weights": "federation"},
        {"kind": "fedyogi"},
    ),
    "Trainer, dropout, FedAdam": (
        {**DEIT, "dropout": 0.2},
        {"kind": "trainer", "batch_size": 4},
        {"kind": "fedadam"},
    ),
    "frozen backbone, cached features": ({**DEIT, "mode": "head"}, LOOP, {"kind": "fedavg"}),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """40 bright or dark images of two owners."""
    draw = np.random.default_rng(0)
    labels = np.arange(40) % 2
    pixels = draw.integers(0, 120, (40, 16, 16, 1)) + 120 * labels[:, None, None, None]
    names = np.where(np.arange(40) < 24, "north", "south")
    path = tmp_path_factory.mktemp("images") / "own.npz"
    np.savez(path, x=pixels.astype(np.uint8), y=labels, owner=names)
    return path


@pytest.fixture(scope="module")
def pool():
    with WorkerPool(1) as pool:  # importing the Trainer costs each worker seconds
        yield pool


def in_process(folder, pool):
    return InProcessEngine(Store(folder / "store"), folder / "cache")


def pooled(folder, pool):
    return PooledEngine(str(folder / "store"), folder / "cache", pool)


def backwards(folder, pool):
    """Clients in another order in one process: nothing may be left over from the one before."""

    class Backwards:
        def run(self, jobs):
            return in_process(folder, pool).run(list(jobs)[::-1])

    return Backwards()


ENGINES = [pooled, backwards]


SLOW = {*TRAININGS} - {"CNN, augmentation, class weights, FedYogi"}


@pytest.mark.parametrize(
    "training",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in TRAININGS],
)
def test_engines_agree(images, pool, tmp_path, training):
    model, settings, strategy = TRAININGS[training]
    config = make_config(
        {
            "seed": 3,
            "data": {
                **{"kind": "arrays", "path": str(images), "task": "binary"},
                **{"inputs": "x", "targets": "y", "owner": "owner"},
            },
            "partition": {"kind": "by_owner"},
            "audit": {"remedy": "accept", "near_duplicates": {"enabled": False}},
            "model": model,
            "training": settings,
            "strategy": strategy,
            "rounds": {"count": 2},
        }
    )

    def run(engine):
        folder = tmp_path / engine.__name__
        store = Store(folder / "store")
        built = engine(folder, pool)
        return run_federated(config, store=store, engine=built, run_id="run")[1]

    reference = run(in_process)
    done = [row["status"] for record in reference.records for row in record.outcomes.values()]
    assert done == ["done"] * 4, reference.records[0].outcomes
    assert reference.records[0].model != reference.records[1].model
    for engine in ENGINES:
        result = run(engine)
        assert result.final_digest == reference.final_digest
        assert [r.digest for r in result.records] == [r.digest for r in reference.records]
