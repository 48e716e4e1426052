"""What a federated algorithm is: the functions that a round calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Algorithm:
    """An algorithm as a value.

    Attributes:
      init: params -> server state (named float64 arrays; empty when there is none).
      step: (params float64, state, mean delta float64) -> (params float64, state).
      drift: JSON description of the term added to each local gradient, as
        :func:`fedcore.strategies.drift.build_drift` takes it.
    """

    init: Callable[[Arrays], dict[str, np.ndarray]]
    step: Callable[[Arrays, Arrays, Arrays], tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]
    drift: Mapping[str, Any] = field(default_factory=lambda: {"kind": "none"})
