"""Who is asked in a round: everybody, independent coins, or a cohort of fixed size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from fedcore import rng
from fedcore.form import Choice, starts_at
from fedcore.settings import Settings

Coin = Callable[[int, str], float]
"""(round, client) -> a number in [0, 1); independent for each."""
Participation = Callable[[Sequence[str], int, Coin], tuple[str, ...]]


def public_coin(seed: int) -> Coin:
    """Coins that everybody knows who knows the run's seed."""
    return lambda round, client: float(rng.stream(seed, "participation", round, client).random())


class Everybody(Settings):
    """Every client in every round."""

    kind: Literal["everybody"] = "everybody"

    def build(self) -> Participation:
        """(clients, round, coin) -> the sorted cohort."""
        return lambda clients, round, coin: tuple(sorted(clients))


class Poisson(Settings, title="Coins"):
    """An independent coin per (round, client): removing a client moves nobody else.

    The cohort's size varies and may be zero; what accountants of subsampled mechanisms assume.
    """

    kind: Literal["poisson"] = "poisson"
    sampling_probability: float = Field(
        gt=0, le=1, description="Chance of each client, a round.", json_schema_extra=starts_at(0.5)
    )

    def build(self) -> Participation:
        """(clients, round, coin) -> the sorted cohort."""
        q = self.sampling_probability
        return lambda clients, round, coin: tuple(sorted(c for c in clients if coin(round, c) < q))


class FixedSize(Settings, title="Fixed number"):
    """The clients with the smallest coins: uniform without replacement, always the same size.

    Breaks two things: removing a client lets another one in, so unlearning is no longer exact; and
    accountants that assume Poisson sampling under-report, so privacy settings refuse it.
    """

    kind: Literal["fixed"] = "fixed"
    cohort_size: int = Field(
        gt=0, description="Clients asked in each round.", json_schema_extra=starts_at(2)
    )

    def build(self) -> Participation:
        """(clients, round, coin) -> the sorted cohort.

        Raises:
          ValueError: at the call, when there are fewer clients than ``cohort_size``.
        """

        def choose(clients: Sequence[str], round: int, coin: Coin) -> tuple[str, ...]:
            if self.cohort_size > len(clients):
                raise ValueError(
                    f"cohort_size={self.cohort_size} is more than the {len(clients)} clients; "
                    "lower participation.cohort_size or use kind: everybody."
                )
            ranked = sorted(clients, key=lambda client: (coin(round, client), client))
            return tuple(sorted(ranked[: self.cohort_size]))

        return choose


ParticipationSettings = Annotated[
    Everybody | Poisson | FixedSize, Field(discriminator="kind"), Choice()
]
