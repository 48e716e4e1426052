"""One site that sees most cases of the rarest label, as a referral centre does."""

from __future__ import annotations

import numpy as np

from fedcore.data.dataset import Split
from fedcore.partition.shares import (
    Partitioner,
    check_clients,
    deal,
    largest_remainder,
    lift_to_minimum,
    named,
    strata_of,
)
from fedcore.task import Task


def rare_label(*, clients: int, share: float = 0.8) -> Partitioner:
    """The first client holds ``share`` of the rarest label; all else is spread evenly.

    Args:
      share: fraction in [0, 1] of the rarest label's samples that the first client holds; the
        others share the rest of them equally. The other labels are spread equally over all clients.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share={share}: a fraction between 0 and 1.")

    def partition(task: Task, split: Split, rng: np.random.Generator) -> dict[str, np.ndarray]:
        check_clients(clients, len(split))
        if clients < 2:
            raise ValueError(
                f"clients={clients}: a rare label needs a second client beside its site."
            )
        strata = strata_of(task, split)
        totals = np.bincount(strata)
        weights = np.ones((clients, len(totals)))
        rarest = int(totals.argmin())
        weights[:, rarest] = (1.0 - share) / (clients - 1)
        weights[0, rarest] = share
        counts = np.stack(
            [largest_remainder(int(n), w) for n, w in zip(totals, weights.T, strict=True)], axis=1
        )
        return named(deal(strata, lift_to_minimum(counts, 1), rng))

    return partition
