"""The promises of training under example-level privacy, for every backend."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import nn

from fedcore.digests import digest_arrays
from fedcore.models.build import build_model, initialise
from fedcore.models.preprocess import TablePreprocess, preprocess_for
from fedcore.models.settings import DeitTinyRandomSettings, GroupNormCnnSettings, MlpSettings
from fedcore.models.state import trainable_state
from fedcore.task import Task, TaskKind
from fedcore.training.contract import TrainingDiverged
from fedcore.training.private.example_noise import ExampleNoise
from fedcore.training.settings import LightAugmentation, LoopSettings, TrainerSettings
from fedcore.training.train import train

THREE = Task(TaskKind.MULTICLASS, ("a", "b", "c"))
IMAGE = {"kind": "image", "shape": [12, 12, 1]}
COUNT = 12
KEY = bytes(range(32))
OTHER_KEY = bytes(32)
SOME = ExampleNoise(clip_norm=0.5, noise_multiplier=1.1, sampling_rate=0.4, steps=4, micro_batch=3)
EXACT = ExampleNoise(clip_norm=1e6, noise_multiplier=0.0, sampling_rate=1.0, steps=3, micro_batch=5)

STEADY = {"weight_decay": 0.0, "max_grad_norm": None, "batch_size": COUNT, "steps": EXACT.steps}
BACKENDS = {
    "loop": LoopSettings(**STEADY),
    "loop-momentum": LoopSettings(momentum=0.9, **STEADY),
    "loop-adamw": LoopSettings(optimizer="adamw", **STEADY),
    "trainer": TrainerSettings(accumulation=1, warmup=0.0, decay="constant", **STEADY),
}
TINY = {"image_size": 16, "width": 12, "blocks": 2}
MODELS = {
    "mlp": MlpSettings(hidden=(5,)),
    "cnn": GroupNormCnnSettings(width=4),
    "head": DeitTinyRandomSettings(mode="head", **TINY),
    "last-block": DeitTinyRandomSettings(mode="last-block", **TINY),
    "adapters": DeitTinyRandomSettings(
        mode="adapters", adapter={"rank": 2, "targets": ["q_proj", "fc1"], "layers": 1}, **TINY
    ),
    "full": DeitTinyRandomSettings(mode="full", **TINY),
}
HEAVY = ("head", "last-block", "adapters", "full")
# The Trainer takes seconds for each, a transformer alone too.
CASES = [
    pytest.param(
        backend,
        name,
        id=f"{backend}-{name}",
        marks=[pytest.mark.slow] * (backend == "trainer" or name in HEAVY),
    )
    for backend in BACKENDS
    for name in MODELS
    if backend in ("loop", "trainer") or name in ("mlp", "full")
]


def _data(name):
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, COUNT)
    if name == "mlp":
        return rng.normal(size=(COUNT, 4)).astype(np.float32), targets
    return rng.integers(0, 256, (COUNT, 12, 12, 1), dtype=np.uint8), targets


def _train(backend="loop", name="mlp", private=SOME, *, key=KEY, model=None, **changes):
    """(state before, state after, result) of one training; ``changes`` are of its arguments."""
    inputs, targets = _data(name)
    inputs, targets = changes.pop("inputs", inputs), changes.pop("targets", targets)
    preprocess = TablePreprocess() if name == "mlp" else preprocess_for(MODELS[name], IMAGE)
    if model is None:
        settings = changes.pop("model_settings", MODELS[name])
        model = build_model(settings, THREE, preprocess.output_shape(inputs.shape[1:]), seed=0)
    before = trainable_state(model)
    arguments = {"task": THREE, "learning_rate": 0.05, "seed": 3, **changes}
    arguments.setdefault("settings", BACKENDS[backend])
    result = train(
        model, inputs, targets, preprocess=preprocess, private=private, key=key, **arguments
    )
    return before, trainable_state(model), result


def _flat(state):
    return np.concatenate([state[name].ravel() for name in sorted(state)]).astype(np.float64)


@pytest.mark.parametrize(("backend", "name"), CASES)
def test_without_noise_and_with_everyone_it_is_full_batch_training(backend, name) -> None:
    _, private, told = _train(backend, name, EXACT)
    _, plain, result = _train(backend, name, None, key=None)
    assert told.steps == result.steps == EXACT.steps
    for key, value in plain.items():
        if key.endswith("k_proj.bias"):
            continue  # attention does not depend on it: Adam makes steps of its rounding errors
        np.testing.assert_allclose(private[key], value, rtol=1e-3, atol=1e-5)
    assert told.metrics == {} and "loss" in result.metrics


@pytest.mark.parametrize(("backend", "name"), CASES)
def test_the_secret_decides_every_byte_and_the_seed_none(backend, name) -> None:
    torch.manual_seed(1)
    _, first, result = _train(backend, name)
    torch.manual_seed(2)
    _, again, same = _train(backend, name, seed=99, names=(5, "va"))
    assert digest_arrays(first) == digest_arrays(again) and result == same
    _, other, _ = _train(backend, name, key=OTHER_KEY)
    assert all((first[key] != other[key]).any() for key in first)
    assert result.steps == SOME.steps and result.num_examples == COUNT


@pytest.mark.parametrize("backend", ["loop", pytest.param("trainer", marks=pytest.mark.slow)])
def test_dropout_and_augmentation_are_the_secrets_too(backend) -> None:
    quiet = ExampleNoise(1e6, 0.0, 1.0, 2)
    changes = {
        "settings": BACKENDS[backend].model_copy(update={"augmentation": LightAugmentation()}),
        "model_settings": GroupNormCnnSettings(width=4, dropout=0.5),
    }
    first, again, other = (
        digest_arrays(_train(backend, "cnn", quiet, key=key, seed=seed, **changes)[1])
        for key, seed in ((KEY, 1), (KEY, 2), (OTHER_KEY, 1))
    )
    assert first == again != other


def test_bfloat16_is_float32_with_less_precision() -> None:
    private = ExampleNoise(0.5, 1.0, 0.7, 3)
    start, exact, _ = _train(name="cnn", private=private)
    settings = BACKENDS["loop"].model_copy(update={"dtype": "bfloat16"})
    _, rough, _ = _train(name="cnn", private=private, settings=settings)
    moved = np.linalg.norm(_flat(exact) - _flat(start))
    assert 0 < np.linalg.norm(_flat(exact) - _flat(rough)) < 0.02 * moved


@pytest.mark.slow
def test_the_trainer_and_the_loop_are_two_roads_to_the_same_weights() -> None:
    loop, trainer = (
        _train(backend, drift=lambda p, a: {n: 0.5 * (p[n] - a[n]) for n in p})[1]
        for backend in ("loop-adamw", "trainer")
    )
    np.testing.assert_allclose(_flat(loop), _flat(trainer), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", ["loop", pytest.param("trainer", marks=pytest.mark.slow)])
def test_steps_on_empty_batches_are_noise_alone(backend) -> None:
    empty = ExampleNoise(0.5, 2.0, 1e-9, 3)
    settings = LoopSettings(steps=3) if backend == "loop" else BACKENDS["trainer"]
    before, after, result = _train(backend, private=empty, settings=settings)
    assert result.steps == 3
    assert all((before[name] != after[name]).all() for name in before)


def test_noise_has_its_variance_and_a_wrong_one_is_seen() -> None:
    """One step of SGD at rate 1 on nobody: the change is noise over the expected batch size."""
    private = ExampleNoise(0.5, 2.0, 1e-9, 1)
    model = initialise(lambda: nn.Linear(4, 1000), THREE_THOUSAND, (4,), seed=0)
    before, after, _ = _train(private=private, model=model, learning_rate=1.0, task=THREE_THOUSAND)
    noise = (_flat(after) - _flat(before)) * (private.sampling_rate * COUNT)
    low, high = chi2.ppf([1e-3, 1 - 1e-3], len(noise))

    def is_plausible(stddev):
        return low < (noise**2).sum() / stddev**2 < high

    assert is_plausible(private.clip_norm * private.noise_multiplier)
    assert not is_plausible(0.93) and not is_plausible(1.07)
    assert abs(noise.mean()) < 4 / np.sqrt(len(noise))


THREE_THOUSAND = Task(TaskKind.MULTICLASS, tuple(map(str, range(1000))))


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("clip_norm", [1e-3, 0.3])
def test_one_example_moves_the_sum_by_the_clip_norm_at_most(name, clip_norm) -> None:
    """Neighbours by one changed example, the same coins and noise: at most twice the bound."""
    private = ExampleNoise(clip_norm, 0.7, 0.9, 1)
    inputs, targets = _data(name)
    moved = []
    for index in range(0, COUNT, 3):
        other, wrong = inputs.copy(), targets.copy()
        other[index], wrong[index] = 255 - other[index], (wrong[index] + 1) % 3
        near, far = (
            _flat(_train(private=private, name=name, learning_rate=1.0, **data)[1])
            for data in ({}, {"inputs": other, "targets": wrong})
        )
        moved.append(np.linalg.norm(near - far) * private.sampling_rate * COUNT)
    assert max(moved) <= 2 * clip_norm * (1 + 1e-4) + 1e-5
    assert max(moved) > 0.5 * clip_norm  # the bound is not met by doing nothing


def test_the_sum_is_divided_by_the_expected_batch() -> None:
    """Everybody's gradient clipped to the norm in one direction: n C over q n, whoever is drawn."""
    model = initialise(lambda: nn.Linear(1, 2, bias=False), PAIR, (1,), seed=0)
    ones = {"inputs": np.ones((COUNT, 1), np.float32), "targets": np.zeros(COUNT, np.int64)}
    lengths = []
    for key in range(40):
        private = ExampleNoise(1e-3, 0.0, 0.25, 1)
        before, after, _ = _train(
            private=private, model=model, key=bytes([key] * 32), task=PAIR, learning_rate=1, **ones
        )
        lengths.append(np.linalg.norm(after["weight"] - before["weight"]) / 1e-3 * 0.25 * COUNT)
    drawn = np.round(lengths)
    np.testing.assert_allclose(lengths, drawn, atol=0.02)
    assert len(set(drawn)) > 3
    assert abs(drawn.mean() - 0.25 * COUNT) < 4 * np.sqrt(COUNT * 0.25 * 0.75 / 40)


PAIR = Task(TaskKind.MULTICLASS, ("a", "b"))


def test_micro_batches_bound_the_memory_and_change_rounding_alone() -> None:
    one, all_at_once = (
        _flat(_train(name="cnn", private=ExampleNoise(0.5, 1.0, 0.7, 3, micro))[1])
        for micro in (1, 64)
    )
    np.testing.assert_allclose(one, all_at_once, rtol=1e-4, atol=1e-5)


def test_drift_is_added_after_the_noise_and_is_not_clipped() -> None:
    before, plain, _ = _train(private=ExampleNoise(1e-3, 1.0, 0.5, 1))
    _, drifted, _ = _train(
        private=ExampleNoise(1e-3, 1.0, 0.5, 1),
        drift=lambda params, anchor: {name: torch.full_like(params[name], 7.0) for name in params},
    )
    np.testing.assert_allclose(_flat(plain) - _flat(drifted), 0.05 * 7.0, rtol=1e-3)
    assert before.keys() == drifted.keys()


def test_an_example_without_a_finite_gradient_counts_as_none() -> None:
    private = ExampleNoise(0.5, 1.0, 1.0, 1)
    inputs, _ = _data("mlp")
    huge, zero = inputs.copy(), inputs.copy()
    huge[7] = 3e38
    model = MlpSettings(hidden=(5,))
    _, after, _ = _train(private=private, inputs=huge, model_settings=model)
    _, again, _ = _train(private=private, inputs=zero, model_settings=model)
    assert np.isfinite(_flat(after)).all()
    distance = np.linalg.norm(_flat(after) - _flat(again)) * COUNT / 0.05
    assert 0 < distance <= private.clip_norm * (1 + 1e-3)


def test_what_diverges_under_noise_is_refused_without_a_word_about_the_data() -> None:
    loud = ExampleNoise(1e30, 1e30, 0.5, 3)
    with pytest.raises(TrainingDiverged, match=r"not finite after 3 steps; lower learning_rate=1"):
        _train(private=loud, learning_rate=1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_weights": "client"}, "this client's label counts.*set class_weights: none"),
        ({"class_weights": "federation"}, "all clients' label counts.*does not charge"),
        ({"max_grad_norm": 1.0}, "max_grad_norm=1 clips a second time.*Set max_grad_norm: null"),
    ],
)
@pytest.mark.parametrize("backend", ["loop", "trainer"])
def test_what_goes_past_the_mechanism_is_refused(backend, settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        _train(backend, settings=BACKENDS[backend].model_copy(update=settings))


def test_batch_norm_is_refused_with_its_replacement() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match=r"layer '1' is BatchNorm1d: it mixes.*nn.GroupNorm"):
        _train(model=model)


def test_the_key_is_needed() -> None:
    with pytest.raises(ValueError, match="needs the job's secret key"):
        _train(key=None)
    with pytest.raises(ValueError, match="secret has 5 bytes"):
        _train(key=b"short")
