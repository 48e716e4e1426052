"""The clients' adapters made into one mean delta, and how far the new product is off.

Streams over clients: the memory is two models and, of each adapted layer, two dense products in
float64, whatever the size of the cohort.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedcore.adapters.layers import Layer, layers_of
from fedcore.adapters.ranks import active_rank, cut_factors, pad_factors
from fedcore.adapters.rule import AdapterRule, Change, Draw, LayerMeans
from fedcore.adapters.scaling import Scaling
from fedcore.aggregation import canonical_mean
from fedcore.tensors import Arrays
from fedcore.training.threads import one_blas_thread


@dataclass(frozen=True)
class Combined:
    """What combining gives.

    Attributes:
      mean_delta: of the names that move, shapes of the base; float64.
      error: ``||P - Q|| / ||Q||`` over all layers (Frobenius), with Q the weighted mean of the
        clients' products and P the product of the new model; NaN where Q is zero and P is not.
      layers: layer -> its own ``error``, and the ``rank`` of its new factors.
    """

    mean_delta: dict[str, np.ndarray]
    error: float = 0.0
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For a round's record; empty where no adapter was trained."""
        if not self.layers:
            return {}
        layers = {
            name: {"error": _finite(row["error"]), "rank": row["rank"]}
            for name, row in self.layers.items()
        }
        return {"error": _finite(self.error), "layers": layers}


def combine(
    rule: AdapterRule,
    anchor: Arrays,
    base: Arrays,
    updates: Iterable[tuple[Arrays, float]],
    *,
    trained: Collection[str],
    scaling: Scaling,
    draw: Draw,
) -> Combined:
    """The mean delta by ``rule``; tensors that are no adapters move by their weighted mean.

    A client's rank is that of its tensors, layer by layer; its factors were those of the anchor,
    cut (:func:`fedcore.adapters.ranks.cut`), plus its delta.

    Args:
      anchor: the global model that clients started from.
      base: the same model as the rule changes it: with residuals, at the highest ranks.
      updates: (delta of what was trained, weight), in client-id order; read once.
      trained: names that clients trained; a layer none of whose factors is among them stays.
      scaling: of the adapters.
      draw: new factors, for rules that begin anew.

    Raises:
      ValueError: no update.
    """
    layers = [one for one in layers_of(anchor) if one.a in trained or one.b in trained]
    with one_blas_thread():
        mean = canonical_mean(
            (_expanded(anchor, base, delta, trained, layers, scaling), weight)
            for delta, weight in updates
        )
        means = {layer.name: _means(base, mean, layer, trained, scaling) for layer in layers}
        changes = rule.combine(means, draw)
        factors = {name for layer in layers for name in (layer.a, layer.b)}
        deltas = {name: mean[name] for name in trained if name not in factors}
        for layer in layers:
            deltas |= _named(layer, changes[layer.name])
        return _measured(deltas, means, changes)


def _expanded(
    anchor: Arrays,
    base: Arrays,
    delta: Arrays,
    trained: Collection[str],
    layers: list[Layer],
    scaling: Scaling,
) -> dict[str, np.ndarray]:
    """A client's delta with its adapters at the rank of the base and, of each, the product."""
    found = {name: delta[name] for name in trained}
    for layer in layers:
        rank = len(delta[layer.a]) if layer.a in delta else delta[layer.b].shape[1]
        start = cut_factors(anchor[layer.a], anchor[layer.b], rank, scaling)
        a, b = (value.astype(np.float64) for value in start)
        moved_a = delta.get(layer.a, np.zeros(a.shape)).astype(np.float64)
        moved_b = delta.get(layer.b, np.zeros(b.shape)).astype(np.float64)
        most = len(base[layer.a])
        from_a, from_b = pad_factors(a, b, most, scaling)
        by_a, by_b = pad_factors(moved_a, moved_b, most, scaling)
        # What a lower rank left out is gone from the client's model; zero at the full rank.
        found[layer.a] = by_a + (from_a - base[layer.a])
        found[layer.b] = by_b + (from_b - base[layer.b])
        found[_product(layer)] = scaling(rank) * (b + moved_b) @ (a + moved_a)
    return found


def _means(
    base: Arrays,
    mean: Arrays,
    layer: Layer,
    trained: Collection[str],
    scaling: Scaling,
) -> LayerMeans:
    a, b = base[layer.a].astype(np.float64), base[layer.b].astype(np.float64)
    return LayerMeans(
        a,
        b,
        mean[layer.a] if layer.a in trained else np.zeros_like(a),
        mean[layer.b] if layer.b in trained else np.zeros_like(b),
        mean[_product(layer)],
        scaling(len(a)),
    )


def _named(layer: Layer, change: Change) -> dict[str, np.ndarray]:
    found = {layer.a: change.delta_a, layer.b: change.delta_b}
    return found if change.residual is None else found | {layer.residual: change.residual}


def _measured(
    deltas: dict[str, np.ndarray], means: Mapping[str, LayerMeans], changes: Mapping[str, Change]
) -> Combined:
    off, whole, told = [], [], {}
    for name, layer in means.items():
        change = changes[name]
        off.append(float(np.square(change.product(layer) - layer.product).sum()))
        whole.append(float(np.square(layer.product).sum()))
        rank = active_rank(layer.a + change.delta_a, layer.b + change.delta_b)
        told[name] = {"error": _relative(off[-1], whole[-1]), "rank": rank}
    return Combined(deltas, _relative(math.fsum(off), math.fsum(whole)), told)


def _relative(off: float, whole: float) -> float:
    """Of squares; NaN where nothing should be and something is."""
    if whole == 0:
        return 0.0 if off == 0 else math.nan
    return math.sqrt(off / whole)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _product(layer: Layer) -> str:
    return f"{layer.name} product"  # no tensor's name: names of modules hold no space
