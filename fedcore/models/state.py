"""What of a model travels (its trainable parameters as numpy arrays), and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn


@runtime_checkable
class Fitted(Protocol):
    """A module whose tensors take the shapes of what it is given, within what it is."""

    def fit(self, params: Mapping[str, np.ndarray]) -> None:
        """Take them, and the values of what is carried."""
        ...

    def carried(self) -> Mapping[str, torch.Tensor | None]:
        """What is sent to clients though they never train it, by name; None: counts as zero."""
        ...


def trainable_parameters(model: nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that require a gradient, by name, in sorted order."""
    return dict(sorted((n, p) for n, p in model.named_parameters() if p.requires_grad))


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """On the CPU; bfloat16, which numpy does not have, as float32."""
    import torch

    tensor = tensor.detach().cpu()
    array: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def trainable_state(model: nn.Module) -> dict[str, np.ndarray]:
    """Copies of the trainable parameters as float32 arrays, in sorted order of their names."""
    return {
        name: parameter.detach().to("cpu").float().numpy().copy()
        for name, parameter in trainable_parameters(model).items()
    }


def frozen_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Tensors of the model's state that are not trained, by name; those of several names (tied
    embeddings) by the first."""
    found: dict[str, torch.Tensor] = {}
    seen = {id(parameter) for parameter in trainable_parameters(model).values()}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            found[name] = tensor.detach()
        seen.add(id(tensor))
    return found


def load_state(model: nn.Module, state: Mapping[str, np.ndarray]) -> None:
    """Sets all that the model has to ``state``: what is trained, and :func:`frozen_state`.

    Raises:
      ValueError: names differ.
      RuntimeError: shapes differ.
    """
    import torch

    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    found = model.load_state_dict(tensors, strict=False)
    own = model.state_dict(keep_vars=True)
    given = {id(own[name]) for name in state if name in own}
    missing = sorted(name for name in found.missing_keys if id(own[name]) not in given)
    if missing or found.unexpected_keys:
        raise ValueError(
            f"state does not fit the model: missing {missing[:3]}, unknown "
            f"{found.unexpected_keys[:3]}; it must name every tensor of the model."
        )


def load_trainable(model: nn.Module, state: Mapping[str, np.ndarray]) -> None:
    """Set the trainable parameters of ``model`` to ``state``; nothing changes when it does not fit.

    A :class:`Fitted` model takes shapes from it, and what is carried beside the parameters. Where
    only a shape is wrong, its own may have changed: load a state that fits before using it.

    Raises:
      ValueError: names, shapes or dtypes differ, or a value is not finite.
    """
    import torch

    parameters = trainable_parameters(model)
    may_have = {*model.carried()} if isinstance(model, Fitted) else set()
    missing = sorted(parameters.keys() - state)
    unknown = sorted(state.keys() - parameters.keys() - may_have)
    if missing or unknown:
        raise ValueError(
            f"state does not fit the model: missing {missing[:3]}, unknown {unknown[:3]} "
            f"({len(missing)} and {len(unknown)}); it must name exactly the trainable parameters."
        )
    for name, value in state.items():
        if value.dtype != np.float32:
            raise ValueError(f"state[{name!r}] has dtype {value.dtype}; it must be float32.")
        if not np.isfinite(value).all():
            raise ValueError(f"state[{name!r}] has values that are not finite; it was refused.")
    if isinstance(model, Fitted):
        model.fit(state)
        parameters = trainable_parameters(model)
    for name, parameter in parameters.items():
        if state[name].shape != tuple(parameter.shape):
            raise ValueError(
                f"state[{name!r}] has shape {state[name].shape}; it must be "
                f"{tuple(parameter.shape)}."
            )
    with torch.no_grad():
        for name, parameter in parameters.items():
            # A copy: blobs are memory-mapped and read-only, which torch warns about.
            parameter.copy_(torch.from_numpy(np.array(state[name])))


@dataclass(frozen=True)
class ParameterCount:
    """How many numbers a model has, and how many of them travel."""

    total: int
    trainable: int


def example_input(model: nn.Module, shape: tuple[int, ...], count: int = 1) -> torch.Tensor:
    """(count, *shape) zeros for a model, where its weights are: quantised ones stay on a GPU."""
    import torch

    return torch.zeros(count, *shape, device=next(model.parameters()).device)


def count_parameters(model: nn.Module) -> ParameterCount:
    """Parameters in all and those that are trained."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return ParameterCount(sum(n for n, _ in sizes), sum(n for n, is_trained in sizes if is_trained))


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that training on one batch needs; ``total`` is their sum.

    Attributes:
      weights: all parameters and buffers.
      gradients: one per trainable parameter.
      optimizer: its moments (0, 1 or 2 per trainable parameter).
      activations: outputs of all leaf modules: an upper bound of what backward keeps.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """Sum of the parts, in bytes."""
        return self.weights + self.gradients + self.optimizer + self.activations


def estimate_memory(
    model: nn.Module, input_shape: tuple[int, ...], batch_size: int, moments: int = 0
) -> MemoryEstimate:
    """What a training step takes, the activations measured by hooks on a batch of one.

    Args:
      model: any module built by :func:`fedcore.models.build.build_model`.
      input_shape: shape of one preprocessed input.
      batch_size: samples of a training batch.
      moments: optimizer values per trainable parameter: 0 SGD, 1 with momentum, 2 AdamW.
    """
    import torch

    sizes: list[int] = []

    def note(_module, _inputs, output):
        if isinstance(output, torch.Tensor):
            sizes.append(output.numel() * output.element_size())

    leaves = [module for module in model.modules() if not list(module.children())]
    hooks = [leaf.register_forward_hook(note) for leaf in leaves]
    was_training = model.training
    try:
        model.eval()
        with torch.no_grad():
            model(example_input(model, input_shape))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    tensors = [*model.parameters(), *model.buffers()]
    trained = 4 * count_parameters(model).trainable
    return MemoryEstimate(
        weights=sum(t.numel() * t.element_size() for t in tensors),
        gradients=trained,
        optimizer=moments * trained,
        activations=batch_size * sum(sizes),
    )
