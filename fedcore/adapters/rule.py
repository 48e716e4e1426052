"""What a rule of aggregation is for adapters: a value made of functions of means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Part(StrEnum):
    """A factor of an adapter, as it stands in the names of tensors."""

    A = "lora_A"
    B = "lora_B"


@dataclass(frozen=True)
class LayerMeans:
    """What the clients' adapters of one layer are on average; float64, of the global rank r.

    Attributes:
      a: (r, inputs) of the model that the round started from.
      b: (outputs, r) of it.
      delta_a: weighted mean of what the clients moved ``a`` by, padded; zero where it was frozen.
      delta_b: the same of ``b``.
      product: (outputs, inputs) weighted mean of the clients' ``scaling_k B_k A_k``.
      scale: the scaling of rank r.
    """

    a: np.ndarray
    b: np.ndarray
    delta_a: np.ndarray
    delta_b: np.ndarray
    product: np.ndarray
    scale: float

    @property
    def product_of_means(self) -> np.ndarray:
        """(outputs, inputs): what the mean of A and the mean of B give."""
        return self.scale * (self.b + self.delta_b) @ (self.a + self.delta_a)


@dataclass(frozen=True)
class Change:
    """How the global model moves at one layer; float64.

    Attributes:
      delta_a: (r, inputs).
      delta_b: (outputs, r).
      residual: (outputs, inputs) added to what is carried; None: nothing.
    """

    delta_a: np.ndarray
    delta_b: np.ndarray
    residual: np.ndarray | None = None

    def product(self, means: LayerMeans) -> np.ndarray:
        """(outputs, inputs): what the layer's adapter and residual add to the frozen weight after
        the round, without the residual of before."""
        factors = means.scale * (means.b + self.delta_b) @ (means.a + self.delta_a)
        return factors if self.residual is None else factors + self.residual


Draw = Callable[[str], np.ndarray]
"""name of a layer -> a new A, (r, inputs), as adapters are initialised; the same at every call."""

Combine = Callable[[Mapping[str, LayerMeans], Draw], dict[str, Change]]
"""Means by layer -> changes by layer."""


@dataclass(frozen=True)
class AdapterRule:
    """A rule as a value.

    Attributes:
      combine: the maths.
      trains: number of a round, from 1 -> the factors that clients train in it.
      carries_residual: whether it changes a residual at each adapted layer.
      averages: whether factors move by their mean only, as every other tensor does.
      adapts: whether it chooses the rank of each layer.
    """

    combine: Combine
    trains: Callable[[int], frozenset[Part]] = lambda round: frozenset(Part)
    carries_residual: bool = False
    averages: bool = False
    adapts: bool = False


def mean_of_factors(means: Mapping[str, LayerMeans], draw: Draw) -> dict[str, Change]:
    """Each factor moves by its weighted mean; what nobody trained stays."""
    return {name: Change(layer.delta_a, layer.delta_b) for name, layer in means.items()}
