"""Batches by independent coins: what the accounting of sampled mechanisms assumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcore.privacy.secret_stream import SecretStream

if TYPE_CHECKING:
    import torch


def poisson_batches(
    stream: SecretStream, *, num_examples: int, sampling_rate: float, steps: int
) -> tuple[torch.Tensor, ...]:
    """For each step the indices, ascending, whose coin fell; none, one or all of them.

    Args:
      stream: only its owner can compute it; takes ``num_examples`` draws for each step.
      num_examples: of the client.
      sampling_rate: probability of each coin.
      steps: number of batches.

    >>> batches = poisson_batches(
    ...     SecretStream(bytes(32)), num_examples=5, sampling_rate=0.3, steps=4
    ... )
    >>> [batch.tolist() for batch in batches]
    [[1, 2], [0, 1, 4], [2, 4], []]
    """
    import torch

    return tuple(
        torch.from_numpy(np.flatnonzero(stream.uniform(num_examples) < sampling_rate))
        for _ in range(steps)
    )
