"""A model from its settings and the run's seed, refused when averaging it would be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from fedcore.digests import canonical_json
from fedcore.models.settings import ModelSettings
from fedcore.models.state import example_input
from fedcore.rng import seeded_globals
from fedcore.task import Task
from fedcore.training.threads import one_thread

if TYPE_CHECKING:
    from torch import nn


def build_model(
    settings: ModelSettings, task: Task, input_shape: tuple[int, ...], seed: int
) -> nn.Module:
    """The module that ``settings`` describes, initialised from the stream ``init`` of ``seed``.

    Args:
      settings: one member of :data:`fedcore.models.settings.ModelSettings`.
      task: decides the number of logits.
      input_shape: one preprocessed input: (channels, height, width) or (columns,).
      seed: the run's seed.

    Returns:
      A float32 module on the CPU, from (n, *input_shape) to (n, task.num_outputs).

    Raises:
      ValueError: see :func:`check_model`.
    """
    return initialise(lambda: settings.build(task, input_shape), task, input_shape, seed)


def initialise(
    factory: Callable[[], nn.Module], task: Task, input_shape: tuple[int, ...], seed: int
) -> nn.Module:
    """``factory()`` under the stream ``init``: the way in for any ``nn.Module`` from Python."""
    with one_thread(), seeded_globals(seed, "init"):
        model = factory()
        check_model(model, task, input_shape)
    return model


@lru_cache(maxsize=4)
def _reused(
    settings: str, task: str, input_shape: tuple[int, ...], seed: int, identity: str
) -> nn.Module:
    parsed: ModelSettings = TypeAdapter(ModelSettings).validate_json(settings)
    if canonical_json(parsed.identity()) != identity:
        raise ValueError(
            f"model kind={parsed.kind!r} is not the one that was planned: its checkpoint or source "
            "changed since. Start the run again."
        )
    return build_model(parsed, Task.from_json(json.loads(task)), input_shape, seed)


def reusable_model(
    settings: ModelSettings,
    task: Task,
    input_shape: tuple[int, ...],
    seed: int,
    identity: Mapping[str, Any],
) -> nn.Module:
    """As :func:`build_model`, kept in this process: a worker builds (and loads) a backbone once.

    Its trainable parameters are whatever the last user left: set all of them with
    :func:`fedcore.models.state.load_trainable` before use. Not for two threads at once.

    Args:
      identity: what the plan says the model is; another checkpoint under the same name is another.

    Raises:
      ValueError: the model is not the planned one, or see :func:`check_model`.
    """
    return _reused(
        settings.model_dump_json(),
        canonical_json(task.to_json()),
        tuple(input_shape),
        seed,
        canonical_json(identity),
    )


def check_model(model: nn.Module, task: Task, input_shape: tuple[int, ...]) -> None:
    """Refuse what cannot be averaged or does not fit the task, by one pass in training mode.

    Raises:
      ValueError: BatchNorm; a buffer that changes in training; nothing trainable; trainable
        parameters other than float32; logits of another shape than (n, task.num_outputs).
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            raise ValueError(
                f"layer {name!r} is {type(module).__name__}: its running statistics are no "
                "parameters and cannot be averaged over clients. Use torch.nn.GroupNorm instead."
            )
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    others = sorted({str(p.dtype) for p in trained if p.dtype != torch.float32})
    if others:
        raise ValueError(
            f"trainable parameters of dtype {', '.join(others)}; what is trained must be float32."
        )
    if not trained:
        raise ValueError("the model has no trainable parameter; at least its head must be trained.")
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    was_training = model.training
    with torch.no_grad():
        logits = model.train()(example_input(model, input_shape, 2))
    model.train(was_training)
    changed = [n for n, b in model.named_buffers() if n not in before or not b.equal(before[n])]
    if changed:
        raise ValueError(
            f"buffer {changed[0]!r} changes in training but is no parameter, so it would not "
            "travel. Use layers without running statistics, for example torch.nn.GroupNorm."
        )
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (2, task.num_outputs):
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(
            f"the model returns {found} for 2 samples; a {task.kind.value} task with "
            f"{len(task.labels)} labels needs logits of shape (2, {task.num_outputs})."
        )
