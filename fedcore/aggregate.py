"""The server's part of a round: check the updates, average them, take the server step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedcore.aggregation import canonical_mean
from fedcore.global_model import GlobalModel
from fedcore.outcomes import ClientUpdate
from fedcore.refs import Ref
from fedcore.staleness import discount
from fedcore.store import Store
from fedcore.strategies.algorithm import Algorithm
from fedcore.tensors import InvalidUpdate, check_delta


@dataclass(frozen=True)
class Aggregate:
    """What aggregation gives.

    Attributes:
      model: the next global model; the parent's parameters when no update was valid.
      refused: client id -> why its update was left out.
    """

    model: GlobalModel
    refused: Mapping[str, str]


def aggregate(
    store: Store,
    algorithm: Algorithm,
    parent: GlobalModel,
    updates: Sequence[tuple[str, ClientUpdate]],
    *,
    weighting: str,
) -> Aggregate:
    """``strategy.step(mean(updates))``; an update that does not fit the model is left out.

    Args:
      updates: (client id, update); the order does not matter. A late one must have started from
        the model of its round, and counts less (:func:`fedcore.staleness.discount`).
      weighting: ``examples`` or ``uniform``.
    """
    anchor = store.get_arrays(parent.params)
    refused: dict[str, str] = {}

    def valid() -> Iterator[tuple[Mapping[str, np.ndarray], float]]:
        for client, update in sorted(updates, key=lambda pair: pair[0]):
            delta = store.get_arrays(update.delta)
            try:
                if update.base != parent.base(update.staleness):
                    raise InvalidUpdate("it started from another model than this round's.")
                check_delta(delta, anchor)
            except InvalidUpdate as error:
                refused[client] = str(error)
                continue
            weight = float(update.num_examples) if weighting == "examples" else 1.0
            yield delta, weight * discount(update.staleness)

    checked = valid()
    first = next(checked, None)
    if first is None:
        return Aggregate(parent.then(parent.params, parent.state), refused)

    def rest() -> Iterator[tuple[Mapping[str, np.ndarray], float]]:
        yield first
        yield from checked

    mean_delta = canonical_mean(rest())
    params = {name: value.astype(np.float64) for name, value in anchor.items()}
    state = store.get_arrays(parent.state) if parent.state else {}
    moved, after = algorithm.step(params, state, mean_delta)
    rounded = {name: moved[name].astype(anchor[name].dtype) for name in anchor}
    _refuse_overflow(rounded)
    return Aggregate(
        parent.then(store.put_arrays(rounded, "model"), _state_ref(store, after)),
        refused,
    )


def _state_ref(store: Store, state: Mapping[str, np.ndarray]) -> Ref | None:
    return store.put_arrays(state, "server-state") if state else None


def _refuse_overflow(params: Mapping[str, np.ndarray]) -> None:
    for name, value in params.items():
        if not np.isfinite(value).all():
            raise ValueError(
                f"the server step made {name!r} infinite or NaN; lower "
                "strategy.server_learning_rate."
            )
