"""The training loss of a batch, in the arithmetic of the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from fedcore.training.contract import Lesson


def batch_loss(lesson: Lesson, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean loss of a preprocessed training batch, augmented here."""
    inputs = lesson.augment(inputs.to(lesson.device))
    return mean_loss(lesson, lesson.network, inputs, targets.to(lesson.device))


def mean_loss(
    lesson: Lesson,
    network: Callable[[torch.Tensor], torch.Tensor],
    inputs: torch.Tensor,
    targets: torch.Tensor,
) -> torch.Tensor:
    """Mean loss of ``network`` on a batch as it is."""
    if lesson.settings.dtype == "bfloat16":
        with torch.autocast(lesson.device, dtype=torch.bfloat16):
            logits = network(inputs).float()
    else:
        logits = network(inputs)
    return lesson.task.loss(logits, targets, lesson.class_weights)
