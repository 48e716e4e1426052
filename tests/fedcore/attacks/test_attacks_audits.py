"""Audits of a client: they catch training that is not private, and pass training that is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedcore.attacks import canary_scores
from fedcore.attacks.audits import inversion_audit, membership_audit, one_run_audit
from fedcore.attacks.canaries import draw_canaries, flip_coins, joined
from fedcore.attacks.canary_scores import loss_scores, update_scores
from fedcore.attacks.claim import accounted
from fedcore.attacks.client import AttackedClient, ClientRound, attacked_client
from fedcore.config import make_config
from fedcore.data.dataset import Dataset, Split
from fedcore.data.text_bytes import pack
from fedcore.execute import execute
from fedcore.models.mlp import mlp
from fedcore.models.preprocess import ImagePreprocess
from fedcore.models.settings import LogisticSettings, ScatteringSettings
from fedcore.models.state import trainable_state
from fedcore.partition.make import make_partition
from fedcore.plan import prepare
from fedcore.privacy.clip_and_noise import l2_norm
from fedcore.store import Store
from fedcore.task import Task, TaskKind
from fedcore.training.private.example_noise import ExampleNoise
from fedcore.training.samples import Samples
from fedcore.training.settings import LoopSettings

TASK = Task(TaskKind.MULTICLASS, ("a", "b", "c", "d"))
SECRET = bytes(range(32))


def images(count=60, seed=0):
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (count, 16, 16, 1), dtype=np.uint8)
    return Split(pictures, rng.integers(0, 4, count, dtype=np.int64))


def client(private=None, rounds=2, epochs=10):
    training = LoopSettings(batch_size=16, epochs=epochs, learning_rate=0.1)
    each = ClientRound(training, 0.5 if private else 0.05, private)
    return AttackedClient(
        "a",
        images(),
        TASK,
        LogisticSettings(),
        ImagePreprocess(1, (0.5,), (0.5,)),
        (each,) * rounds,
        seed=3,
    )


PRIVATE = ExampleNoise(clip_norm=1.0, noise_multiplier=17.0, sampling_rate=1.0, steps=10)


def bound(attacked, sees="updates", claimed=1.0):
    found = one_run_audit(attacked, delta=1e-5, canaries=200, secret=SECRET, seed=0, sees=sees)
    return found.epsilon, found.refutes(claimed)


@pytest.mark.parametrize("sees", [pytest.param("updates", marks=pytest.mark.slow), "model"])
def test_the_one_run_audit_refutes_what_is_not_private(sees):
    private = client(PRIVATE)
    assert bound(private, sees) == (once := bound(private, sees))
    assert not once[1]
    assert bound(client(), sees)[0] > 1.5
    assert bound(private.with_noise(0), sees)[1], "clipping alone is not private"
    assert bound(private.with_noise(0.1), sees)[1], "a tenth of the noise is not what is claimed"


def test_membership_and_inversion_tell_noise_from_none():
    private = client(PRIVATE)
    how = {"secret": SECRET, "seed": 0, "models": 6}
    assert membership_audit(private.without_privacy(), **how).auc.estimate > 0.8
    assert membership_audit(private, **how).auc.estimate < 0.65
    for open_client in (private.without_privacy(), private.with_noise(0)):
        found = inversion_audit(open_client, secret=SECRET, seed=0)
        assert found.method == "analytic"
        assert found.likeness.cosine > 0.999
        assert found.original.shape == found.reconstruction.shape == (1, 16, 16)
    assert inversion_audit(private, secret=SECRET, seed=0).likeness.cosine < 0.5


def planned(folder, **sections):
    config = make_config({"partition": {"kind": "iid", "clients": 3}, **sections})
    data = Dataset(
        "own",
        TASK,
        {"train": images(), "test": images(8, 1)},
        {"kind": "image", "shape": [16, 16, 1]},
    )
    store = Store(folder / "store")
    return store, prepare(config, data, make_partition(data, config.partition, 0, {}), store)


def test_the_attacked_client_trains_as_its_jobs_do(tmp_path):
    store, plan = planned(
        tmp_path,
        model={"kind": "mlp", "hidden": [8]},
        training={"kind": "loop", "batch_size": 8, "epochs": 1, "class_weights": "federation"},
        strategy={"kind": "fedprox", "mu": 0.1},
        rounds={"count": 1},
    )
    name = plan.federation.ids[1]
    rows = plan.federation.load(store, name, "train")
    after = attacked_client(plan, rows, name).trainer(SECRET)(rows, "any")
    (job,) = plan.train_jobs(1, plan.initial.params, (name,))
    delta = store.get_arrays(execute(job, store, tmp_path / "cache").result.delta)
    start = store.get_arrays(plan.initial.params)
    assert all(((after[key] - start[key]) == delta[key]).all() for key in delta)


@pytest.mark.parametrize("kind", ["example", "local"])
def test_the_attacked_client_has_the_noise_of_its_jobs(tmp_path, kind):
    store, plan = planned(
        tmp_path,
        model={"kind": "logistic"},
        privacy={"kind": kind, "epsilon": 4.0, "clip_norm": 0.5},
        rounds={"count": 2},
    )
    name = plan.federation.ids[0]
    rows = plan.federation.load(store, name, "train")
    attacked = attacked_client(plan, rows, name)
    assert 3.9 < accounted(attacked, 1e-5) <= 4.0
    if kind == "local":
        start = store.get_arrays(plan.initial.params)
        after = attacked.with_noise(0).trainer(SECRET)(rows, "any")
        assert l2_norm({key: after[key] - start[key] for key in start}) <= 2 * 0.5 + 1e-6
        noisy = attacked.trainer(SECRET)(rows, "any")
        assert l2_norm({key: noisy[key] - after[key] for key in start}) > 10


@pytest.mark.slow
def test_a_head_on_fixed_features_is_attacked_at_its_features():
    attacked = replace(client(rounds=1), model=ScatteringSettings())
    found = inversion_audit(attacked, secret=SECRET, seed=0)
    assert found.method == "analytic" and found.likeness.cosine > 0.999
    assert found.original.ndim == 1 and found.likeness.ssim is None
    assert one_run_audit(attacked, delta=1e-5, canaries=40, secret=SECRET, seed=0).guesses


def test_coins_come_from_the_secret_alone():
    coins = flip_coins(SECRET, 1001, "one run", 0)
    assert coins.shape == (1001,) and coins.dtype == bool
    assert (coins == flip_coins(SECRET, 1001, "one run", 0)).all()
    assert 0.45 < coins.mean() < 0.55
    for other in (
        flip_coins(SECRET, 1001, "one run", 1),
        flip_coins(bytes(32), 1001, "one run", 0),
    ):
        assert 0.4 < (coins == other).mean() < 0.6


def test_canaries_are_at_the_ends_of_the_range():
    rng = np.random.default_rng(0)
    drawn = draw_canaries(images(), 50, task=TASK, rng=rng)
    assert drawn.inputs.dtype == np.uint8 and set(np.unique(drawn.inputs)) == {0, 255}
    assert set(drawn.targets) == {0, 1, 2, 3}
    table = Split(np.array([[0.0, 5.0], [1.0, 5.0]], np.float32), np.array([0, 1]))
    drawn = draw_canaries(table, 20, task=TASK, rng=rng)
    assert set(drawn.inputs[:, 0]) == {0, 1} and set(drawn.inputs[:, 1]) == {5}
    assert len(joined(table, drawn)) == 22
    with pytest.raises(ValueError, match="the task is regression"):
        draw_canaries(table, 2, task=Task(TaskKind.REGRESSION, ("days",)), rng=rng)
    texts = Split(pack(["well", "ill"], 40), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"canaries are images or rows of a table; .* texts"):
        draw_canaries(texts, 2, task=TASK, rng=rng)


def test_update_scores_find_what_was_added_and_are_inner_products_where_memory_is_short(
    monkeypatch,
):
    torch.manual_seed(0)
    model = mlp((6,), 3)
    task = Task(TaskKind.MULTICLASS, ("a", "b", "c"))
    records, targets = torch.randn(8, 6), torch.arange(8) % 3
    errors = torch.softmax(model(records).detach(), 1) - torch.eye(3)[targets]
    gradients = [
        {"1.bias": e.numpy(), "1.weight": torch.outer(e, x).numpy()}
        for e, x in zip(errors, records, strict=True)
    ]
    change = {n: -(gradients[2][n] + 0.5 * gradients[5][n]) for n in gradients[0]}
    assert change.keys() == trainable_state(model).keys()
    found = update_scores(model, change, Samples(records, None), targets, task)
    assert set(np.argsort(found)[-2:]) == {2, 5}
    monkeypatch.setattr(canary_scores, "KEPT_NUMBERS", 0)
    found = update_scores(model, change, Samples(records, None), targets, task)
    by_hand = [
        -sum((change[n] * g[n]).sum() for n in g) / np.sqrt(sum((v**2).sum() for v in g.values()))
        for g in gradients
    ]
    assert found == pytest.approx(by_hand, rel=1e-4)


def test_loss_scores_are_the_gain_over_the_reference():
    logits, reference = np.array([[3.0], [1.0]]), np.array([[1.0], [1.0]])
    binary = Task(TaskKind.BINARY, ("no", "yes"))
    assert loss_scores(logits, reference, np.array([1, 0]), binary).tolist() == [2, 0]


def test_noise_is_scaled_in_every_round():
    scaled = client(PRIVATE).with_noise(0.1)
    assert [r.private.noise_multiplier for r in scaled.rounds] == pytest.approx([1.7, 1.7])
    assert client().with_noise(0.1).rounds[0].private is None
    assert replace(scaled, rounds=()).input_shape == (1, 16, 16)
