"""The promises of local training, for every backend and a model of each sort."""

import numpy as np
import pytest
import torch
from torch import nn

from fedcore.digests import digest_arrays
from fedcore.models.build import build_model, initialise
from fedcore.models.preprocess import TablePreprocess, preprocess_for
from fedcore.models.settings import (
    DeitTinyRandomSettings,
    GroupNormCnnSettings,
    LogisticSettings,
    MlpSettings,
)
from fedcore.models.state import trainable_parameters, trainable_state
from fedcore.task import Task, TaskKind
from fedcore.training.contract import TrainingDiverged
from fedcore.training.settings import LightAugmentation, LoopSettings, TrainerSettings
from fedcore.training.train import predict, train

THREE = Task(TaskKind.MULTICLASS, ("a", "b", "c"))
IMAGE = {"kind": "image", "shape": [12, 12, 1]}
TABLE = {"kind": "table", "names": ["a", "b", "c", "d"]}

BACKENDS = {
    "loop": LoopSettings(batch_size=4),
    "loop-adamw": LoopSettings(batch_size=4, optimizer="adamw", steps=3, max_grad_norm=0.5),
    "loop-bfloat16": LoopSettings(batch_size=4, dtype="bfloat16", momentum=0.9),
    "loop-augmented": LoopSettings(batch_size=4, augmentation=LightAugmentation()),
    "trainer": TrainerSettings(batch_size=4),
    "trainer-augmented": TrainerSettings(batch_size=4, epochs=2, augmentation=LightAugmentation()),
}
PLAIN = ("loop", "loop-adamw", "trainer")
TINY = {"image_size": 16, "width": 12, "blocks": 2, "dropout": 0.3}
MODELS = {
    "logistic": (LogisticSettings(), TABLE),
    "mlp": (MlpSettings(hidden=(5,), dropout=0.3), TABLE),
    "cnn": (GroupNormCnnSettings(width=4, dropout=0.3), IMAGE),
    "head": (DeitTinyRandomSettings(mode="head", **TINY), IMAGE),
    "last-block": (DeitTinyRandomSettings(mode="last-block", **TINY), IMAGE),
    "adapters": (
        DeitTinyRandomSettings(mode="adapters", adapter={"rank": 2, "layers": 1}, **TINY),
        IMAGE,
    ),
    "full": (DeitTinyRandomSettings(mode="full", **TINY), IMAGE),
}
# The Trainer takes seconds for each: one in the quick tests, all in the whole suite.
CASES = [
    pytest.param(
        backend,
        model,
        id=f"{backend}-{model}",
        marks=[pytest.mark.slow] * (backend == "trainer" and model != "mlp"),
    )
    for backend in BACKENDS
    for model, (_, features) in MODELS.items()
    if "augmented" not in backend or model in ("cnn", "head")  # images only
]


def _data(features, count=10):
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, count)
    if features is TABLE:
        return rng.normal(size=(count, 4)).astype(np.float32), targets
    return rng.integers(0, 256, (count, 12, 12, 1), dtype=np.uint8), targets


def _prepared(name):
    settings, features = MODELS[name]
    preprocess = preprocess_for(settings, features)
    raw = (4,) if features is TABLE else (12, 12, 1)
    model = build_model(settings, THREE, preprocess.output_shape(raw), seed=0)
    return model, preprocess, features


def _train(backend, name, *, count=10, drift=None, names=(1, "cleveland"), **changes):
    model, preprocess, features = _prepared(name)
    inputs, targets = _data(features, count)
    result = train(
        model,
        changes.get("inputs", inputs),
        changes.get("targets", targets),
        task=THREE,
        preprocess=preprocess,
        settings=changes.get("settings", BACKENDS[backend]),
        learning_rate=0.05,
        seed=3,
        names=names,
        drift=drift,
    )
    return model, result


def proximal(mu):
    return lambda params, anchor: {name: mu * (params[name] - anchor[name]) for name in params}


@pytest.mark.parametrize(("backend", "name"), CASES)
def test_twice_the_same_bytes_and_only_what_is_trainable_changes(backend, name) -> None:
    before, _, _ = _prepared(name)
    torch.manual_seed(1)
    model, result = _train(backend, name)
    state, after = trainable_state(model), torch.rand(1)
    torch.manual_seed(2)
    np.random.seed(5)
    again, same = _train(backend, name)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1)), "global generators are restored"
    assert digest_arrays(state) == digest_arrays(trainable_state(again))
    assert result == same
    assert result.num_examples == 10
    assert result.steps > 0
    assert np.isfinite(result.metrics["loss"])
    start = trainable_state(before)
    assert any((state[key] != start[key]).any() for key in start)
    for key, value in before.state_dict().items():
        if key not in start:
            assert torch.equal(value, model.state_dict()[key]), f"{key} is frozen"


@pytest.mark.parametrize("backend", PLAIN)
def test_other_names_draw_otherwise(backend) -> None:
    first, second = (_train(backend, "full", names=(1, c))[0] for c in ("hungary", "va"))
    assert digest_arrays(trainable_state(first)) != digest_arrays(trainable_state(second))


@pytest.mark.parametrize("backend", PLAIN)
def test_a_drift_of_zero_is_no_drift_and_a_strong_one_holds_back(backend) -> None:
    start = trainable_state(_prepared("full")[0])

    def moved(drift):
        state = trainable_state(_train(backend, "full", drift=drift)[0])
        return digest_arrays(state), sum(
            float(((state[name] - start[name]) ** 2).sum()) for name in start
        )

    free, zero, held = moved(None), moved(proximal(0.0)), moved(proximal(10.0))
    assert free == zero
    assert held != free
    if backend == "loop":  # Adam's steps have no length
        assert held[1] < free[1]


@pytest.mark.parametrize("backend", PLAIN)
def test_the_anchor_given_to_the_drift_never_moves(backend) -> None:
    start = trainable_state(_prepared("cnn")[0])
    seen = []

    def drift(params, anchor):
        seen.append(
            all(np.array_equal(anchor[name].numpy(), value) for name, value in start.items())
        )
        assert params.keys() == anchor.keys() == start.keys()

    _train(backend, "cnn", drift=drift)
    assert seen and all(seen)


@pytest.mark.parametrize("backend", PLAIN)
def test_a_client_with_one_sample_trains(backend) -> None:
    _, result = _train(backend, "cnn", count=1)
    assert result.num_examples == 1


@pytest.mark.parametrize("backend", PLAIN)
def test_a_client_with_one_class_trains_with_balanced_weights(backend) -> None:
    weighted = BACKENDS[backend].model_copy(update={"class_weights": "client"})
    _, result = _train(backend, "cnn", targets=np.zeros(10, dtype=np.int64), settings=weighted)
    assert np.isfinite(result.metrics["loss"])


@pytest.mark.parametrize("backend", ["loop", "trainer"])
@pytest.mark.parametrize(
    "task",
    [
        Task(TaskKind.BINARY, ("no", "yes")),
        Task(TaskKind.MULTILABEL, ("a", "b")),
        Task(TaskKind.ORDINAL, ("low", "middle", "high")),
        Task(TaskKind.REGRESSION, ("age",)),
    ],
    ids=lambda task: task.kind.value,
)
def test_every_kind_of_target_is_learned(backend, task) -> None:
    inputs, _ = _data(TABLE)
    rng = np.random.default_rng(1)
    targets = {
        TaskKind.BINARY: rng.integers(0, 2, 10),
        TaskKind.MULTILABEL: rng.integers(0, 2, (10, 2)),
        TaskKind.ORDINAL: rng.integers(0, 3, 10),
        TaskKind.REGRESSION: rng.normal(size=10).astype(np.float32),
    }[task.kind]
    model = build_model(MlpSettings(), task, (4,), seed=0)
    settings = BACKENDS[backend].model_copy(update={"epochs": 10})

    def loss():
        logits = predict(model, inputs, preprocess=TablePreprocess())
        return task.loss(torch.from_numpy(logits), torch.from_numpy(targets)).item()

    before = loss()
    train(
        model,
        inputs,
        targets,
        task=task,
        preprocess=TablePreprocess(),
        settings=settings,
        learning_rate=0.02,
        seed=0,
    )
    assert loss() < before


@pytest.mark.parametrize("backend", PLAIN)
def test_bad_samples_are_refused_before_anything_is_trained(backend) -> None:
    inputs, targets = _data(TABLE)
    broken = inputs.copy()
    broken[7, 2] = np.nan
    for changes, message in (
        ({"inputs": broken}, r"inputs have values that are not finite \(first in sample 7\)"),
        ({"inputs": inputs[:0], "targets": targets[:0]}, "num_examples=0"),
        ({"targets": targets[:4]}, "10 inputs and 4 targets"),
    ):
        with pytest.raises(ValueError, match=message):
            _train(backend, "mlp", **changes)


@pytest.mark.parametrize("backend", ["loop", "trainer"])
def test_a_loss_that_is_not_finite_is_never_returned(backend) -> None:
    inputs, targets = _data(TABLE)
    with pytest.raises(TrainingDiverged, match=r"loss is (nan|inf).*learning_rate=0.05"):
        _train(backend, "mlp", inputs=inputs * np.float32(1e38), targets=targets)


def test_parameters_that_overflow_in_the_last_step_are_refused() -> None:
    model = initialise(lambda: nn.Linear(4, 3), THREE, (4,), seed=0)
    with torch.no_grad():
        model.weight.fill_(3e38)  # equal logits: the loss is finite, the step is not
    inputs, targets = np.full((2, 4), 1e-3, np.float32), np.array([0, 0])
    with pytest.raises(TrainingDiverged, match="parameter 'weight' is not finite after 1 steps"):
        train(
            model,
            inputs,
            targets,
            task=THREE,
            preprocess=TablePreprocess(),
            settings=LoopSettings(),
            learning_rate=3e38,
            seed=0,
            drift=lambda params, anchor: {"weight": params["weight"]},
        )


def test_one_step_of_sgd_by_hand() -> None:
    """w - lr (softmax(x w) - onehot) x, with zero weights: softmax is 1/3."""
    model = initialise(lambda: nn.Linear(2, 3), THREE, (2,), seed=0)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    inputs, targets = np.array([[1.0, 2.0]], np.float32), np.array([1])
    result = train(
        model,
        inputs,
        targets,
        task=THREE,
        preprocess=TablePreprocess(),
        settings=LoopSettings(),
        learning_rate=0.3,
        seed=0,
    )
    expected = [[-0.1, -0.2], [0.2, 0.4], [-0.1, -0.2]]
    np.testing.assert_allclose(trainable_state(model)["weight"], expected, rtol=1e-6)
    np.testing.assert_allclose(trainable_state(model)["bias"], [-0.1, 0.2, -0.1], rtol=1e-6)
    assert result.metrics["loss"] == pytest.approx(np.log(3))


@pytest.mark.parametrize("drift", [None, proximal(0.5)])
def test_trainer_and_loop_are_two_roads_to_the_same_weights(drift) -> None:
    """AdamW, constant rate, no dropout, no decay (the Trainer spares biases), one batch a step."""
    common = {"batch_size": 4, "epochs": 2, "weight_decay": 0.0, "max_grad_norm": 0.5}
    states = []
    for settings in (
        LoopSettings(optimizer="adamw", **common),
        TrainerSettings(accumulation=1, warmup=0.0, decay="constant", **common),
    ):
        model = build_model(MlpSettings(hidden=(5,)), THREE, (4,), seed=0)
        inputs, targets = _data(TABLE)
        result = train(
            model,
            inputs,
            targets,
            task=THREE,
            preprocess=TablePreprocess(),
            settings=settings,
            learning_rate=0.01,
            seed=3,
            drift=drift,
        )
        states.append((trainable_state(model), result))
    assert states[0][1].steps == states[1][1].steps == 6
    assert states[0][1].metrics["loss"] == pytest.approx(states[1][1].metrics["loss"], rel=1e-5)
    for name, value in states[0][0].items():
        np.testing.assert_allclose(value, states[1][0][name], rtol=1e-4, atol=1e-6)


def test_accumulation_counts_optimizer_steps_and_a_single_one_learns() -> None:
    _, result = _train("trainer", "mlp")  # 10 samples, batches of 4, 2 batches a step
    assert result.steps == 2
    model, result = _train("trainer", "mlp", count=1)
    assert result.steps == 1
    before = trainable_state(_prepared("mlp")[0])
    assert digest_arrays(trainable_state(model)) != digest_arrays(before)


def test_federation_weights_must_be_given() -> None:
    with pytest.raises(ValueError, match="needs the federation's weights"):
        _train("loop", "mlp", settings=LoopSettings(class_weights="federation"))


def test_prediction_is_in_order_in_any_batch_size_and_leaves_the_mode() -> None:
    model, preprocess, features = _prepared("cnn")
    inputs, _ = _data(features)
    model.train()
    whole = predict(model, inputs, preprocess=preprocess)
    parts = predict(model, inputs, preprocess=preprocess, batch_size=3)
    np.testing.assert_allclose(whole, parts, rtol=1e-4, atol=1e-5)
    assert whole.shape == (10, 3)
    assert whole.dtype == np.float32
    assert model.training
    assert predict(model, inputs[:0], preprocess=preprocess).shape == (0, 3)


def test_parameters_that_nothing_uses_stay_as_they_are() -> None:
    class Spare(nn.Module):
        """Has a layer beside the path from input to output."""

        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, inputs):
            return self.used(inputs)

    inputs, targets = _data(TABLE)
    for settings in (LoopSettings(weight_decay=0.1, momentum=0.9), TrainerSettings()):
        model = initialise(Spare, THREE, (4,), seed=0)
        before = trainable_state(model)
        train(
            model,
            inputs,
            targets,
            task=THREE,
            preprocess=TablePreprocess(),
            settings=settings,
            learning_rate=0.1,
            seed=0,
            drift=proximal(0.1),
        )
        after = trainable_state(model)
        np.testing.assert_array_equal(after["spare.weight"], before["spare.weight"])
        assert (after["used.weight"] != before["used.weight"]).any()
        assert list(trainable_parameters(model)) == sorted(before)
