"""What several runs over the same data have told of one record, all together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from fedcore.privacy.dominating import Pair
from fedcore.privacy.events import Neighbours, SampledGaussian
from fedcore.privacy.rdp import ORDERS, divergences, epsilon_of


def told_together(
    runs: Iterable[Mapping[str, Sequence[SampledGaussian]]],
    delta: float,
    neighbours: Neighbours = "add_or_remove",
) -> float:
    """An upper bound of the epsilon of all runs' results, whichever client a record was at in each.

    Renyi divergences of runs add up, also where a run was chosen by the results of others; within a
    run the largest of the clients' counts, order by order, since a record is at one of them.

    Args:
      runs: of each, client -> what was released of its data.
      delta: above 0, below 1.

    >>> round(told_together([{"a": [SampledGaussian(0.01, 1.0, 100)]}] * 2, 1e-5), 2)
    1.34
    """
    given = [set(map(tuple, run.values())) for run in runs]  # equal clients once
    return max(
        (_in_direction(given, delta, neighbours, is_added=is_added) for is_added in (False, True)),
        default=0.0,
    )


def _in_direction(
    runs: Sequence[Collection[Sequence[SampledGaussian]]],
    delta: float,
    neighbours: Neighbours,
    *,
    is_added: bool,
) -> float:
    total = np.zeros_like(ORDERS)
    for clients in runs:
        of_clients = [_divergence(events, neighbours, is_added) for events in clients]
        total = total + np.max(of_clients, axis=0, initial=0.0)
    return epsilon_of(total, delta)[0]


def _divergence(
    events: Sequence[SampledGaussian], neighbours: Neighbours, is_added: bool
) -> np.ndarray:
    total = np.zeros_like(ORDERS)
    for event in events:
        if event.sampling_rate > 0:
            if event.noise_multiplier == 0:
                return np.full_like(ORDERS, np.inf)
            pair = Pair(
                float(event.sampling_rate), event.noise_multiplier, neighbours == "replace_one"
            )
            total = total + event.steps * divergences(pair, is_added)
    return total
