"""A round's adapters at the server: what clients should send, how it is combined, what is left."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedcore.adapters.choice import adapter_of, rule_of
from fedcore.adapters.combine import Combined, combine
from fedcore.adapters.coordinates import ProductCoordinates, product_coordinates
from fedcore.adapters.layers import layers_of
from fedcore.adapters.ranks import pad, trim
from fedcore.adapters.rule import AdapterRule
from fedcore.adapters.scaling import Scaling
from fedcore.rng import stream
from fedcore.tensors import Arrays

if TYPE_CHECKING:
    from fedcore.config import RunConfig


@dataclass(frozen=True)
class AdapterRound:
    """How one round aggregates adapters.

    Attributes:
      rule: of aggregation.
      scaling: of the adapters.
      rank: of the adapters, the highest that any client or layer may have.
      round: from 1.
      seed: of the run; new factors are drawn from its stream of this round.
      hides_products: whether clients are hidden by the norm of their products.
    """

    rule: AdapterRule
    scaling: Scaling
    rank: int
    round: int
    seed: int
    hides_products: bool = False

    def base(self, anchor: Arrays) -> dict[str, np.ndarray]:
        """The global model as the rule changes it: with residuals where it carries them, and at the
        highest rank where it chooses ranks."""
        found = pad(anchor, self.rank, self.scaling) if self.rule.adapts else dict(anchor)
        if self.rule.carries_residual:
            for layer in layers_of(anchor):
                a, b = anchor[layer.a], anchor[layer.b]
                found.setdefault(layer.residual, np.zeros((len(b), a.shape[1]), b.dtype))
        return found

    def combine(
        self,
        anchor: Arrays,
        base: Arrays,
        updates: Iterable[tuple[Arrays, float]],
        trained: Collection[str],
    ) -> Combined:
        """The mean delta of ``base``; arguments as :func:`fedcore.adapters.combine.combine`."""
        shapes = {layer.name: base[layer.a].shape for layer in layers_of(base)}
        return combine(
            self.rule,
            anchor,
            base,
            updates,
            trained=trained,
            scaling=self.scaling,
            draw=lambda layer: fresh(shapes[layer], self.seed, self.round, layer),
        )

    def coordinates(self, anchor: Arrays, trained: Collection[str]) -> ProductCoordinates:
        """In which clients are hidden: those of their products, or of what they send.

        Raises:
          ValueError: see :func:`fedcore.adapters.coordinates.product_coordinates`.
        """
        if not self.hides_products:
            return ProductCoordinates({})
        return product_coordinates(anchor, self.scaling, trained)

    def left(self, params: Arrays) -> dict[str, np.ndarray]:
        """What travels of the new model: without the directions that the rule did not choose."""
        return trim(params, self.scaling) if self.rule.adapts else dict(params)


def adapter_round(config: RunConfig, round: int) -> AdapterRound | None:
    """Of a run; None where its model has no adapters."""
    adapter, rule = adapter_of(config.model), rule_of(config)
    if adapter is None or rule is None:
        return None
    hides_products = getattr(config.privacy, "norm_of", "update") == "product"
    return AdapterRound(rule, adapter.scaling, adapter.rank, round, config.seed, hides_products)


def fresh(shape: tuple[int, ...], seed: int, round: int, layer: str) -> np.ndarray:
    """A new A, (rank, inputs): uniform within 1 / sqrt(inputs), as PEFT draws it (Kaiming with
    a = sqrt(5))."""
    bound = 1.0 / np.sqrt(shape[1])
    return stream(seed, "adapters", round, layer).uniform(-bound, bound, shape)
