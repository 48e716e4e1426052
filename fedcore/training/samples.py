"""A client's inputs as batches of preprocessed tensors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from fedcore.models.preprocess import Preprocess

# Up to this size everything is preprocessed once; beyond it (images blown up to 224 pixels) every
# batch is. Speed only: the values are the same.
KEPT_BYTES = 256 * 2**20


class Samples:
    """Inputs of ``len(samples)`` samples; ``batch(indices)`` is what a model reads, (b, ...)."""

    def __init__(
        self,
        inputs: np.ndarray | torch.Tensor,
        preprocess: Preprocess | None,
        cache: Path | None = None,
    ) -> None:
        """Raw arrays with their preprocessing, or a tensor (cached features) with None.

        Args:
          cache: folder where what preprocessing gives may be kept; speed only.
        """
        self.raw = inputs
        self.preprocess = preprocess
        self._ready: torch.Tensor | None = None
        if preprocess is None:
            self._ready = inputs  # type: ignore[assignment]
            return
        raw = np.asarray(inputs)
        self._read = preprocess.reader(raw, cache)
        if 4 * len(raw) * math.prod(preprocess.output_shape(raw.shape[1:])) <= KEPT_BYTES:
            self._ready = self._read(np.arange(len(raw)))

    def __len__(self) -> int:
        return len(self.raw)

    def batch(self, indices: torch.Tensor) -> torch.Tensor:
        """The preprocessed samples at ``indices``, in that order."""
        if self._ready is not None:
            return self._ready[indices]
        return self._read(indices.numpy())
