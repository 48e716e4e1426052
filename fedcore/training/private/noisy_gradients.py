"""The gradients of a private step: clipped sums plus noise, over the expected batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from fedcore.models.state import trainable_parameters
from fedcore.privacy.secret_stream import SecretStream, derived_key
from fedcore.training.loss import mean_loss
from fedcore.training.private.clipped_sum import Loss
from fedcore.training.private.example_noise import ExampleNoise
from fedcore.training.private.layers import Sums
from fedcore.training.private.poisson import poisson_batches
from fedcore.training.private.trial import choose_way

if TYPE_CHECKING:
    from fedcore.training.contract import Lesson


@dataclass(frozen=True)
class PrivateSteps:
    """What a client's secret decides of its training, each from a stream of its own.

    Attributes:
      example_noise: the mechanism.
      batches: Poisson batches, one per step.
      clip_norms: (n,) float64, the bound of each example's gradient.
      noise: drawn from in the order of steps, then of the parameters' names.
      seed: for what else is random, augmentation and dropout: known to others, it would tie an
        example's to who else is in its batch.
    """

    example_noise: ExampleNoise
    batches: tuple[torch.Tensor, ...]
    clip_norms: torch.Tensor
    noise: SecretStream
    seed: int


def private_steps(
    example_noise: ExampleNoise, key: bytes, num_examples: int, groups: np.ndarray | None = None
) -> PrivateSteps:
    """Everything random about a private training, from 32 bytes that only the client knows.

    Args:
      key: of this job alone: derived from the client's secret and the job's key.
      groups: (n,) str, the group of persons of each example, or None.

    Raises:
      ValueError: as :meth:`ExampleNoise.shares`.
    """
    rates, clip_norms = example_noise.shares(num_examples, groups)

    def stream(purpose):
        return SecretStream(derived_key(key, f"dp-sgd {purpose}"))

    return PrivateSteps(
        example_noise=example_noise,
        batches=poisson_batches(
            stream("batches"),
            sampling_rates=rates,
            steps=example_noise.steps,
        ),
        clip_norms=torch.from_numpy(clip_norms),
        noise=stream("noise"),
        seed=int.from_bytes(stream("augmentation and dropout").bytes(32), "big"),
    )


def noisy_gradients(lesson: Lesson) -> Callable[[torch.Tensor], dict[str, torch.Tensor]]:
    """Indices of a step's examples to ``(sum of clipped gradients + noise) / (q n)`` by name.

    The noise is Normal(0, (sigma C)^2), the expected batch size q n is public, where the drawn one
    is not (Abadi et al. 2016, algorithm 1). Every trainable parameter gets noise, on an empty batch
    and where the network did not use it too. The sum is over micro-batches in order; the noise is
    added in float64 and the result rounded to float32 once.

    Args:
      lesson: a private one; each call draws on from its stream of noise.
    """
    private = lesson.private
    if private is None:
        raise ValueError("this lesson is not private; it has no noise.")
    noise = private.example_noise
    parameters = trainable_parameters(lesson.model)
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    sizes = [shape.numel() for shape in shapes.values()]
    clipped_sum = _clipped_sum(lesson, private.clip_norms)
    expected = noise.sampling_rate * len(lesson.samples)
    rows = _rows(private.noise, sum(sizes), noise.clip_norm * noise.noise_multiplier / expected)

    def gradients(indices):
        sums: Sums = {}
        for part in indices.split(noise.micro_batch) if len(indices) else ():
            for parameter, value in clipped_sum(part).items():
                sums[parameter] = sums[parameter] + value if parameter in sums else value
        flat = [sums[p] if p in sums else p.new_zeros(p.shape) for p in parameters.values()]
        total = torch.cat([value.flatten() for value in flat]).cpu()
        noisy = next(rows).add(total, alpha=1 / expected).float().to(lesson.device).split(sizes)
        return {
            name: value.view(shape)
            for (name, shape), value in zip(shapes.items(), noisy, strict=True)
        }

    return gradients


def _clipped_sum(lesson: Lesson, clip_norms: torch.Tensor) -> Callable[[torch.Tensor], Sums]:
    def total(network, inputs, targets):
        return mean_loss(lesson, network, inputs, targets) * len(targets)

    is_exact = lesson.settings.dtype == "float32"  # autocast rounds the logits on their way
    loss = Loss(total, lesson.task.logit_gradients if is_exact else None)
    example = lesson.samples.batch(torch.tensor([0]))
    way = choose_way(lesson.network, loss, example, lesson.targets)
    of_batch = way(lesson.network, loss)

    def clipped_sum(indices):
        inputs = lesson.augment(lesson.samples.batch(indices).to(lesson.device))
        return of_batch(inputs, lesson.targets[indices].to(lesson.device), clip_norms[indices])

    return clipped_sum


def _rows(stream: SecretStream, width: int, stddev: float) -> Iterator[torch.Tensor]:
    """(width,) float64 noise for one step after the other, of small models some at once."""
    count = max(1, 8192 // width)
    while True:
        drawn = stream.normal(width * count).reshape(count, width)
        yield from torch.from_numpy(drawn * stddev)
