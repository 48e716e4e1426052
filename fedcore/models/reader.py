"""How preprocessed inputs are read: some rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Reader = Callable[[np.ndarray], "torch.Tensor"]
"""(b,) int64 indices to what a model reads of those inputs, (b, ...), in that order."""
