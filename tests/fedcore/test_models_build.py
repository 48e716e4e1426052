"""Building a model: seeded, and refused when averaging it would be wrong."""

import numpy as np
import pytest
import torch
from torch import nn

from fedcore.digests import digest_arrays
from fedcore.models.build import build_model, initialise, reusable_model
from fedcore.models.settings import GroupNormCnnSettings, MlpSettings
from fedcore.models.state import trainable_state
from fedcore.task import Task, TaskKind

BINARY = Task(TaskKind.BINARY, ("no", "yes"))


def _digest(model: nn.Module) -> str:
    return digest_arrays(trainable_state(model))


def test_the_seed_decides_the_first_model_and_nothing_else_does() -> None:
    settings = GroupNormCnnSettings(width=4, dropout=0.3)
    torch.manual_seed(1)
    first = _digest(build_model(settings, BINARY, (1, 28, 28), seed=7))
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1)), "the global generator was left as it was"
    assert first == _digest(build_model(settings, BINARY, (1, 28, 28), seed=7))
    assert first != _digest(build_model(settings, BINARY, (1, 28, 28), seed=8))


def test_a_reused_model_is_the_same_module() -> None:
    settings = MlpSettings(hidden=(3,))
    identity = settings.identity()
    model = reusable_model(settings, BINARY, (4,), 0, identity)
    assert model is reusable_model(MlpSettings(hidden=(3,)), BINARY, (4,), 0, identity)
    assert model is not reusable_model(settings, BINARY, (4,), 1, identity)
    with pytest.raises(ValueError, match="is not the one that was planned"):
        reusable_model(settings, BINARY, (4,), 0, {"kind": "another"})
    assert _digest(model) == _digest(build_model(settings, BINARY, (4,), 0))


class Counting(nn.Module):
    """Keeps a running mean outside its parameters, as a home-made normalisation might."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen += len(inputs)
        return self.linear(inputs)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (
            lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1)),
            "layer '0' is BatchNorm1d.*torch.nn.GroupNorm",
        ),
        (Counting, "buffer 'seen' changes in training.*GroupNorm"),
        (lambda: nn.Linear(4, 1).requires_grad_(False), "no trainable parameter"),
        (lambda: nn.Linear(4, 1).double(), "torch.float64.*must be float32"),
        (
            lambda: nn.Linear(4, 2),
            r"returns \(2, 2\) for 2 samples; a binary.*shape \(2, 1\)",
        ),
        (lambda: nn.LSTM(4, 1), "returns tuple for 2 samples"),
    ],
)
def test_what_cannot_be_averaged_is_refused(factory, message) -> None:
    with pytest.raises(ValueError, match=message):
        initialise(factory, BINARY, (4,), seed=0)


def test_any_module_from_python_is_welcome_and_left_in_its_mode() -> None:
    model = initialise(lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.Linear(4, 1)), BINARY, (4,), 3)
    assert model.training
    assert np.isfinite(trainable_state(model)["1.weight"]).all()
