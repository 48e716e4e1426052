"""What every backend of local training takes, gives and promises.

The promises, checked in ``tests/contracts/test_training_backends.py``: only trainable parameters
change; the same arguments give the same bytes; a drift of zero changes nothing; what is not finite
is refused, never returned. Private lessons: ``tests/contracts/test_private_training.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

    from fedcore.task import Task
    from fedcore.training.private.noisy_gradients import PrivateSteps
    from fedcore.training.samples import Samples
    from fedcore.training.settings import TrainingSettings

# (parameters, anchor) by name -> a term for each named gradient, before clipping and the optimizer
# step. FedProx: {name: mu * (w - anchor)}. None: nothing to add.
Drift = Callable[
    [Mapping[str, "torch.Tensor"], Mapping[str, "torch.Tensor"]],
    "Mapping[str, torch.Tensor] | None",
]


class TrainingDiverged(ArithmeticError):
    """A loss or a parameter stopped being finite; nothing of this training may be used."""


@dataclass(frozen=True)
class TrainResult:
    """What local training reports besides the changed model.

    Attributes:
      num_examples: samples the client trained on (each counted once).
      steps: optimizer steps.
      metrics: ``loss``: mean training loss per sample seen, class weights included. Empty for
        private training, whose mechanism does not cover it.
    """

    num_examples: int
    steps: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Lesson:
    """One client's local training, ready for a backend.

    Attributes:
      model: owns the parameters; changed in place.
      network: what maps a batch of ``samples`` to logits: the model, or its head on features.
      samples: the client's inputs.
      targets: as in :class:`fedcore.task.TaskKind`.
      task: gives the loss.
      settings: of the backend.
      learning_rate: of this round.
      batches: index tensors, one per batch, in order; each epoch covers every sample once. Of a
        private lesson one per step, any number of samples each.
      augment: (inputs) -> inputs for training batches.
      drift: see :data:`Drift`, or None.
      class_weights: see :meth:`fedcore.task.Task.loss`, or None.
      device: ``cpu``, ``cuda`` or ``mps``.
      private: the gradient of each step is then
        :func:`fedcore.training.private.noisy_gradients.noisy_gradients`, or None.
    """

    model: nn.Module
    network: nn.Module
    samples: Samples
    targets: torch.Tensor
    task: Task
    settings: TrainingSettings
    learning_rate: float
    batches: tuple[torch.Tensor, ...]
    augment: Callable[[torch.Tensor], torch.Tensor]
    drift: Drift | None
    class_weights: torch.Tensor | None
    device: str
    private: PrivateSteps | None = None


class Backend(Protocol):
    """Runs a lesson: changes the model's trainable parameters in place."""

    def __call__(self, lesson: Lesson) -> tuple[int, float | None]:
        """(optimizer steps, mean loss per sample seen; None of a private lesson).

        Raises:
          TrainingDiverged: a loss is not finite.
        """
        ...
