"""The server's part of a round: check the updates, average them, take the server step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from fedcore.adapters.coordinates import ProductCoordinates
from fedcore.adapters.server import AdapterRound, adapter_round
from fedcore.aggregation import canonical_mean
from fedcore.assignment import Assignment
from fedcore.digests import digest_bytes
from fedcore.global_model import GlobalModel
from fedcore.outcomes import ClientUpdate
from fedcore.plan import RunPlan
from fedcore.privacy.client_level import private_mean
from fedcore.privacy.client_round import (
    CLIP_NORM,
    STATE,
    ClientRound,
    client_mechanism,
    client_round,
)
from fedcore.privacy.owner import Owner
from fedcore.refs import Ref
from fedcore.staleness import discount
from fedcore.store import Store
from fedcore.strategies.algorithm import Algorithm
from fedcore.tensors import Arrays, InvalidUpdate, check_delta, encode


@dataclass(frozen=True)
class Aggregate:
    """What aggregation gives.

    Attributes:
      model: the next global model; the parent's parameters when no update was valid.
      refused: client id -> why its update was left out.
      told: JSON of the privacy events of the new model, each with who pays, where clients are
        hidden.
      adapters: JSON: how far the product of the new adapters is off, overall and by layer, and each
        layer's rank; empty where there are none, or where clients are hidden.
    """

    model: GlobalModel
    refused: Mapping[str, str]
    told: tuple[Mapping[str, Any], ...] = ()
    adapters: Mapping[str, Any] = field(default_factory=dict)


def aggregate(
    store: Store,
    algorithm: Algorithm,
    parent: GlobalModel,
    updates: Sequence[tuple[str, ClientUpdate]],
    *,
    weighting: str,
    private: ClientRound | None = None,
    adapters: AdapterRound | None = None,
    assigned: Callable[[str | None], Assignment] = lambda client: Assignment(),
) -> Aggregate:
    """``strategy.step(mean(updates))``; an update that does not fit the model is left out.

    Args:
      updates: (client id, update); the order does not matter. A late one must have started from
        the model of its round, and counts less (:func:`fedcore.staleness.discount`).
      weighting: ``examples`` or ``uniform``; not used where clients are hidden.
      private: hides clients; then no update at all is noise alone, and the new model is charged
        before it is in the store.
      adapters: how adapters become one; None: as every other tensor does.
      assigned: what the round asks a client to train, whose update has that and nothing else; of
        None: at the ranks of the global model.

    Raises:
      BudgetExceeded: it would tell too much of the clients.
    """
    anchor = store.get_arrays(parent.params)
    trained = assigned(None).expected(anchor)
    refused: dict[str, str] = {}

    def valid() -> Iterator[tuple[Arrays, ClientUpdate]]:
        for client, update in sorted(updates, key=lambda pair: pair[0]):
            delta = store.get_arrays(update.delta)
            try:
                if update.base != parent.base(update.staleness):
                    raise InvalidUpdate("it started from another model than this round's.")
                check_delta(delta, assigned(client).expected(anchor))
            except InvalidUpdate as error:
                refused[client] = str(error)
                continue
            yield delta, update

    held = store.get_arrays(parent.state) if parent.state else {}
    state = {name: value for name, value in held.items() if not name.startswith(STATE)}
    extra: dict[str, np.ndarray] = {}
    told: dict[str, Any] = {}
    checked = valid()
    base = adapters.base(anchor) if adapters else anchor
    if private is not None:
        how = adapters.coordinates(anchor, trained) if adapters else ProductCoordinates({})
        sums = ((how.there(delta), update.num_examples) for delta, update in checked)
        noisy, clip = private_mean(sums, trained, private.mechanism, private.key, private.earlier)
        mean_delta = how.back(noisy)
        extra = dict(private.state)
        if private.mechanism.adaptive:
            extra[CLIP_NORM] = np.array(clip)
    else:
        first = next(checked, None)
        if first is None:
            return Aggregate(parent.then(parent.params, parent.state), refused)
        weighted = _weighted(chain([first], checked), weighting)
        if adapters is None:
            mean_delta = canonical_mean(weighted)
        else:
            combined = adapters.combine(anchor, base, weighted, trained)
            mean_delta, told = combined.mean_delta, combined.to_json()
    params = {name: base[name].astype(np.float64) for name in mean_delta}
    moved, after = algorithm.step(params, state, mean_delta)
    # What no client trained keeps its value, and its part of the server's state.
    whole = {**base, **{name: moved[name].astype(base[name].dtype) for name in moved}}
    rounded = adapters.left(whole) if adapters else whole
    after = {**state, **after}
    _refuse_overflow(rounded)
    if private is not None:
        private.charge(digest_bytes(encode(rounded)))
    paid = private.told if private is not None else ()
    return Aggregate(
        parent.then(store.put_arrays(rounded, "model"), _state_ref(store, {**after, **extra})),
        refused,
        told=tuple({"client": who, **event.to_json()} for who, event in paid),
        adapters=told,
    )


def aggregate_round(
    store: Store,
    plan: RunPlan,
    parent: GlobalModel,
    updates: Sequence[tuple[str, ClientUpdate]],
    owner: Owner | None = None,
) -> Aggregate:
    """``aggregate`` as a run's plan has it.

    Args:
      owner: the coordinator's secret and ledger, where clients are hidden.
    """
    config = plan.config
    sizes = {one: held.sizes["train"] for one, held in plan.federation.clients.items()}
    state = store.get_arrays(parent.state) if parent.state else {}
    mechanism, private = client_mechanism(config, sizes, state), None
    if mechanism is not None:
        data, base = plan.identity["partition"], parent.params.digest
        private = client_round(
            config,
            mechanism,
            data,
            base,
            updates,
            owner,
            round=parent.round + 1,
            parts=plan.assignment(parent.round + 1).parts,
            state=state,
        )
    weighting = config.aggregation.weighting
    return aggregate(
        store,
        plan.algorithm,
        parent,
        updates,
        weighting=weighting,
        private=private,
        adapters=adapter_round(config, parent.round + 1),
        assigned=partial(plan.assignment, parent.round + 1),
    )


def _weighted(
    updates: Iterable[tuple[Arrays, ClientUpdate]], weighting: str
) -> Iterator[tuple[Arrays, float]]:
    for delta, update in updates:
        weight = float(update.num_examples) if weighting == "examples" else 1.0
        yield delta, weight * discount(update.staleness)


def _state_ref(store: Store, state: Mapping[str, np.ndarray]) -> Ref | None:
    return store.put_arrays(state, "server-state") if state else None


def _refuse_overflow(params: Mapping[str, np.ndarray]) -> None:
    for name, value in params.items():
        if not np.isfinite(value).all():
            raise ValueError(
                f"the server step made {name!r} infinite or NaN; lower "
                "strategy.server_learning_rate."
            )
