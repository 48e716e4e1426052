"""Batches by independent coins: what the accounting of sampled mechanisms assumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcore.privacy.secret_stream import SecretStream

if TYPE_CHECKING:
    import torch


def poisson_batches(
    stream: SecretStream, *, sampling_rates: np.ndarray, steps: int
) -> tuple[torch.Tensor, ...]:
    """For each step the indices, ascending, whose coin fell; none, one or all of them.

    Args:
      stream: only its owner can compute it; takes n draws for each step.
      sampling_rates: (n,) probability of each example's coin.
      steps: number of batches.

    >>> rates = np.full(5, 0.3)
    >>> batches = poisson_batches(SecretStream(bytes(32)), sampling_rates=rates, steps=4)
    >>> [batch.tolist() for batch in batches]
    [[1, 2], [0, 1, 4], [2, 4], []]
    """
    import torch

    return tuple(
        torch.from_numpy(np.flatnonzero(stream.uniform(len(sampling_rates)) < sampling_rates))
        for _ in range(steps)
    )
