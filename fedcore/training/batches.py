"""The order in which a client's samples are visited."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def draw_batches(
    rng: np.random.Generator,
    *,
    num_examples: int,
    batch_size: int,
    epochs: int | None,
    steps: int | None,
) -> tuple[torch.Tensor, ...]:
    """A new permutation per epoch, cut into batches; the last one of an epoch may be smaller.

    Args:
      rng: of this client and round.
      num_examples: samples of the client, at least 1.
      batch_size: samples of a batch.
      epochs: number of permutations, or
      steps: number of batches, from as many permutations as that takes.

    >>> rng = np.random.default_rng(0)
    >>> batches = draw_batches(rng, num_examples=3, batch_size=2, epochs=None, steps=3)
    >>> [len(batch) for batch in batches]
    [2, 1, 2]
    """
    import torch

    batches: list[torch.Tensor] = []
    per_epoch = -(-num_examples // batch_size)
    for _ in range(epochs or -(-(steps or 1) // per_epoch)):
        order = torch.from_numpy(rng.permutation(num_examples))
        batches.extend(order.split(batch_size))
    return tuple(batches[:steps])
