"""The small torch loop: for models where a Trainer's fixed cost would be most of the time."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from fedcore.models.state import trainable_parameters
from fedcore.training.contract import Drift, Lesson, TrainingDiverged
from fedcore.training.loss import batch_loss
from fedcore.training.optimizers import Step, adamw, sgd
from fedcore.training.private.noisy_gradients import noisy_gradients
from fedcore.training.settings import LoopSettings


def run_loop(lesson: Lesson) -> tuple[int, float | None]:
    """One optimizer step per batch; a :class:`fedcore.training.contract.Backend`."""
    settings = lesson.settings
    if not isinstance(settings, LoopSettings):
        raise ValueError(f"the loop backend takes kind='loop' settings, not {settings.kind!r}.")
    parameters = trainable_parameters(lesson.model)
    anchor = {name: p.detach().clone() for name, p in parameters.items()} if lesson.drift else {}
    step = _optimizer(settings, lesson.learning_rate)
    private_gradients = noisy_gradients(lesson) if lesson.private is not None else None
    total, seen = 0.0, 0
    for index, indices in enumerate(lesson.batches):
        if private_gradients is not None:
            used = private_gradients(indices)
        else:
            loss = batch_loss(lesson, lesson.samples.batch(indices), lesson.targets[indices])
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingDiverged(
                    f"the training loss is {value} at step {index + 1} of {len(lesson.batches)}; "
                    f"lower learning_rate={lesson.learning_rate:g} or set max_grad_norm."
                )
            total, seen = total + value * len(indices), seen + len(indices)
            # A parameter that the network does not use has no gradient and keeps its value.
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            used = {n: g for n, g in zip(parameters, gradients, strict=True) if g is not None}
        with torch.no_grad():
            if lesson.drift is not None:
                add_drift(lesson.drift, used, parameters, anchor)
            grads = list(used.values())
            if settings.max_grad_norm is not None:
                clip_gradients(grads, settings.max_grad_norm)
            step([parameters[name] for name in used], grads)
    return len(lesson.batches), None if private_gradients is not None else total / seen


def _optimizer(settings: LoopSettings, learning_rate: float) -> Step:
    if settings.optimizer == "adamw":
        return adamw(learning_rate=learning_rate, weight_decay=settings.weight_decay)
    return sgd(
        learning_rate=learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


def add_drift(
    drift: Drift,
    gradients: dict[str, torch.Tensor],
    parameters: Mapping[str, torch.Tensor],
    anchor: Mapping[str, torch.Tensor],
) -> None:
    """Replace each gradient that ``drift`` has a term for by their sum."""
    terms = drift({name: parameter.detach() for name, parameter in parameters.items()}, anchor)
    for name, term in (terms or {}).items():
        if name in gradients:
            gradients[name] = gradients[name] + term


def clip_gradients(gradients: list[torch.Tensor], max_norm: float) -> None:
    """Scale in place to an L2 norm of at most ``max_norm`` over all tensors together."""
    norms = torch._foreach_norm(gradients)
    total = torch.linalg.vector_norm(torch.stack(list(norms)))
    factor = torch.clamp(max_norm / (total + 1e-6), max=1.0)
    torch._foreach_mul_(gradients, factor)
