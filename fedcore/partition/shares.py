"""Arithmetic of the partitioners: whole numbers from proportions, and samples dealt by label.

``flwr-datasets`` has partitioners too. Ours are used because its newest release (0.6.1) requires
``datasets<5``, it cannot share out validation and test data in the clients' training proportions,
and it takes one integer seed where a run needs named streams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from fedcore.data.dataset import Split
from fedcore.task import Task

Partitioner = Callable[[Task, Split, np.random.Generator], Mapping[str, np.ndarray]]
"""(task, training split, rng) -> client id -> (n,) indices into it; disjoint and complete."""


def client_ids(clients: int) -> tuple[str, ...]:
    """Names that sort in their order.

    >>> client_ids(2)
    ('client-000', 'client-001')
    """
    width = max(3, len(str(clients - 1)))
    return tuple(f"client-{number:0{width}}" for number in range(clients))


def check_clients(clients: int, samples: int, min_size: int = 1) -> None:
    """Refuse a number of clients that the samples cannot fill.

    Raises:
      ValueError: fewer than one client, or fewer than ``min_size`` samples for each.
    """
    if clients < 1:
        raise ValueError(f"clients={clients}: a partition needs at least 1 client.")
    if clients * min_size > samples:
        raise ValueError(
            f"clients={clients} with at least {min_size} training samples each need "
            f"{clients * min_size} samples; there are {samples}. Take fewer clients or a smaller "
            "minimum."
        )


def check_positive(**values: float) -> None:
    """Refuse an argument that is not a positive finite number; its name reaches the message."""
    for name, value in values.items():
        if not (value > 0 and np.isfinite(value)):
            raise ValueError(f"{name}={value}: must be greater than 0 and finite.")


def largest_remainder(total: int, weights: np.ndarray) -> np.ndarray:
    """Whole numbers in proportion to ``weights`` that add up to ``total`` (Hamilton's method).

    Shares are rounded to 1e-9 before they are compared, so that the last bit of a machine's
    exponential or logarithm decides nothing. Ties go to the earlier entry.

    Args:
      total: how many to give out.
      weights: (n,) non-negative, not all zero.

    Returns:
      (n,) int64.

    >>> largest_remainder(7, np.array([1.0, 1.0, 2.0]))
    array([2, 2, 3])
    """
    exact = np.round(total * (weights / weights.sum()), 9)
    counts = np.floor(exact).astype(np.int64)
    order = np.argsort(-np.round(exact - counts, 9), kind="stable")
    missing = total - int(counts.sum())
    counts[order[:missing]] += 1
    return counts


def strata_of(task: Task, split: Split) -> np.ndarray:
    """(n,) int64 position of each sample's stratum among those that occur, from 0 without gaps."""
    return np.unique(task.strata(split.targets), return_inverse=True)[1].reshape(-1)


def deal(strata: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Each client's samples: ``counts[client, stratum]`` of each stratum, without replacement.

    Args:
      strata: (n,) int64 below the number of columns of ``counts``.
      counts: (clients, strata) whole numbers; each column adds up to that stratum's size.

    Returns:
      one (n,) int64 array of sorted indices per client.
    """
    parts: list[list[np.ndarray]] = [[] for _ in counts]
    for stratum in range(counts.shape[1]):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        cuts = np.cumsum(counts[:-1, stratum])
        for part, piece in zip(parts, np.split(members, cuts), strict=True):
            part.append(piece)
    return [np.sort(np.concatenate(part)).astype(np.int64) for part in parts]


def cut(order: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
    """Consecutive pieces of ``order`` with the given sizes, each sorted."""
    pieces = np.split(order, np.cumsum(sizes)[:-1])
    return [np.sort(piece).astype(np.int64) for piece in pieces]


def named(parts: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The parts under the names of :func:`client_ids`."""
    return dict(zip(client_ids(len(parts)), parts, strict=True))


def lift_to_minimum(counts: np.ndarray, min_size: int) -> np.ndarray:
    """Move single samples from the largest client to the smallest until each has ``min_size``.

    The sample comes from the stratum of which the largest client has most; ties go to the earlier
    client and stratum. Column sums stay.

    Args:
      counts: (clients, strata) whole numbers with a total of at least clients * min_size.

    Returns:
      (clients, strata), a new array.
    """
    counts = counts.copy()
    sizes = counts.sum(axis=1)
    while sizes.min() < min_size:
        poor, rich = int(sizes.argmin()), int(sizes.argmax())
        stratum = int(counts[rich].argmax())
        counts[rich, stratum] -= 1
        counts[poor, stratum] += 1
        sizes[rich] -= 1
        sizes[poor] += 1
    return counts
