"""What travels: trainable parameters, strictly checked; counts and memory."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedcore.models.mlp import mlp
from fedcore.models.state import (
    count_parameters,
    estimate_memory,
    load_trainable,
    trainable_state,
)


def _half_frozen() -> nn.Sequential:
    model = mlp((3,), 1, hidden=(2,))
    model[1].requires_grad_(False)
    return model


def test_only_trainable_parameters_travel_sorted_and_copied() -> None:
    model = _half_frozen()
    state = trainable_state(model)
    assert list(state) == ["3.bias", "3.weight"]
    assert {value.dtype for value in state.values()} == {np.dtype(np.float32)}
    state["3.bias"][:] = 9
    assert model[3].bias.item() != 9


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3))
def test_a_loaded_state_comes_back(values) -> None:
    model = _half_frozen()
    state = {
        "3.bias": np.array(values[:1], dtype=np.float32),
        "3.weight": np.array([values[1:]], dtype=np.float32),
    }
    for value in state.values():
        value.flags.writeable = False  # as a memory-mapped blob
    load_trainable(model, state)
    for name, value in trainable_state(model).items():
        np.testing.assert_array_equal(value, state[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"3.bias": None}, r"missing \['3.bias'\]"),
        ({"1.bias": np.zeros(2, np.float32)}, r"unknown \['1.bias'\]"),
        ({"3.bias": np.zeros(2, np.float32)}, r"shape \(2,\); it must be \(1,\)"),
        ({"3.bias": np.zeros(1)}, "dtype float64; it must be float32"),
        ({"3.bias": np.array([np.nan], np.float32)}, "not finite"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, message) -> None:
    model = _half_frozen()
    before = trainable_state(model)
    state = {name: value + 1 for name, value in before.items()} | change
    with pytest.raises(ValueError, match=message):
        load_trainable(model, {name: value for name, value in state.items() if value is not None})
    for name, value in trainable_state(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_counts_and_memory_by_hand() -> None:
    model = _half_frozen()
    count = count_parameters(model)
    assert (count.total, count.trainable) == (3 * 2 + 2 + 3, 3)
    memory = estimate_memory(model, (3,), batch_size=10, moments=2)
    assert (memory.weights, memory.gradients, memory.optimizer) == (44, 12, 24)
    # per sample: flattened 3, hidden 2, after ReLU 2, logit 1
    assert memory.activations == 10 * 4 * 8
    assert memory.total == 44 + 12 + 24 + 320
    assert model.training and not any(module._forward_hooks for module in model.modules())


def test_other_devices_and_dtypes_travel_as_float32() -> None:
    assert trainable_state(nn.Linear(1, 1).to(torch.bfloat16))["weight"].dtype == np.float32
