"""Late updates: how much one counts that started from the model of an earlier round.

Xie, Koyejo, Gupta, Asynchronous Federated Optimization (FedAsync), 2019, section 5.2: the
polynomial discount (1 + t)^-a; Nguyen et al., Federated Learning with Buffered Asynchronous
Aggregation (FedBuff), AISTATS 2022, takes a = 1/2.
"""

from __future__ import annotations

import math

MOST_STALENESS = 16  # rounds; what is older is of no use


def discount(staleness: int) -> float:
    """Factor of an update's weight: 1 / sqrt(1 + staleness).

    In a weighted mean it lowers a late update against the others of the round; alone it is whole.

    Args:
      staleness: rounds between the model that it started from and the one that it is added to.

    Raises:
      ValueError: a negative number of rounds.

    >>> discount(0), discount(3)
    (1.0, 0.5)
    """
    if staleness < 0:
        raise ValueError(f"staleness={staleness} rounds: an update is of this round or a past one.")
    return 1 / math.sqrt(1 + staleness)
