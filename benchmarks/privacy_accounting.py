"""What ``dp-accounting`` says of the settings that the tests of ``fedcore.privacy`` use.

    python -m benchmarks.privacy_accounting

prints the rows of GRID in tests/fedcore/privacy/test_privacy_accounting.py, in about a minute:
``dp-accounting`` 0.6.0, PLD on a grid of 1e-4 (finer where a step's loss is smaller) and RDP with
its own orders.
"""

from __future__ import annotations

import logging

import dp_accounting
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

SETTINGS = (
    # example-level: sampling rate, noise multiplier, steps, delta
    (1.0, 1.0, 1, 1e-5),
    (256 / 60_000, 1.1, 14_400, 1e-5),
    (0.004, 1.1, 14_400, 1e-5),
    (2048 / 60_000, 2.15, 1172, 1e-5),
    (0.05, 1.2, 200, 1e-4),
    (0.05, 0.8, 20, 1e-5),
    (0.02, 1.5, 3000, 1e-5),
    (0.01, 0.7, 100, 1e-5),
    (0.01, 1.0, 10_000, 1e-6),
    (0.004, 0.6, 1000, 1e-5),
    (0.01, 4.0, 1000, 1e-7),
    (0.25, 10.0, 500, 1e-5),
    # client-level: cohorts drawn by coin, or everybody
    (1.0, 5.0, 100, 1e-5),
    (1.0, 20.0, 1000, 1e-6),
    (1.0, 50.0, 10, 1e-5),
    (0.5, 4.0, 100, 1e-5),
    (0.2, 2.0, 50, 1e-3),
    (0.1, 1.0, 100, 1e-2),
    (0.1, 2.0, 1000, 1e-5),
    (0.3, 0.5, 5, 1e-4),
)


def composed(rate: float, noise: float, steps: int) -> dp_accounting.DpEvent:
    """The event whose cost is asked for."""
    gaussian = dp_accounting.GaussianDpEvent(noise)
    sampled = dp_accounting.PoissonSampledDpEvent(rate, gaussian)
    return dp_accounting.SelfComposedDpEvent(sampled, steps)


def tight(rate: float, noise: float, steps: int, delta: float, *, is_replaced: bool) -> float:
    """Epsilon of their PLD accountant."""
    relation = dp_accounting.NeighboringRelation
    accountant = PLDAccountant(
        relation.REPLACE_ONE if is_replaced else relation.ADD_OR_REMOVE_ONE,
        value_discretization_interval=1e-4 if rate > 0.005 else 3e-5,
    )
    return float(accountant.compose(composed(rate, noise, steps)).get_epsilon(delta))


def renyi(rate: float, noise: float, steps: int, delta: float) -> float:
    """Epsilon of their RDP accountant, one record more or less."""
    logging.disable(logging.WARNING)  # orders that it leaves out
    try:
        return float(RdpAccountant().compose(composed(rate, noise, steps)).get_epsilon(delta))
    finally:
        logging.disable(logging.NOTSET)


def main() -> None:
    """Prints a row per setting: the setting, PLD, RDP, and PLD for a replaced record."""
    for setting in SETTINGS:
        numbers = [
            tight(*setting, is_replaced=False),
            renyi(*setting),
            tight(*setting, is_replaced=True),
        ]
        print(f"    ({setting!r}, {', '.join(f'{number:.5f}' for number in numbers)}),", flush=True)


if __name__ == "__main__":
    main()
