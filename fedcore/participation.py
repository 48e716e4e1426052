"""Who is asked in a round: everybody, independent coins, or a cohort of fixed size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from fedcore import rng
from fedcore.form import Choice, starts_at
from fedcore.settings import Settings

Participation = Callable[[Sequence[str], int, int], tuple[str, ...]]


def _coin(seed: int, round: int, client: str) -> float:
    return float(rng.stream(seed, "participation", round, client).random())


class Everybody(Settings):
    """Every client in every round."""

    kind: Literal["everybody"] = "everybody"

    def build(self) -> Participation:
        """(clients, run seed, round) -> the sorted cohort."""
        return lambda clients, seed, round: tuple(sorted(clients))


class Poisson(Settings, title="Coins"):
    """An independent coin per (round, client): removing a client moves nobody else.

    The cohort's size varies and may be zero; what accountants of subsampled mechanisms assume.
    """

    kind: Literal["poisson"] = "poisson"
    sampling_probability: float = Field(
        gt=0, le=1, description="Chance of each client, a round.", json_schema_extra=starts_at(0.5)
    )

    def build(self) -> Participation:
        """(clients, run seed, round) -> the sorted cohort."""
        q = self.sampling_probability
        return lambda clients, seed, round: tuple(
            sorted(c for c in clients if _coin(seed, round, c) < q)
        )


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
        """(clients, run seed, round) -> the sorted cohort.

        Raises:
          ValueError: at the call, when there are fewer clients than ``cohort_size``.
        """

        def choose(clients: Sequence[str], seed: int, round: int) -> tuple[str, ...]:
            if self.cohort_size > len(clients):
                raise ValueError(
                    f"cohort_size={self.cohort_size} is more than the {len(clients)} clients; "
                    "lower participation.cohort_size or use kind: everybody."
                )
            ranked = sorted(clients, key=lambda client: (_coin(seed, round, client), client))
            return tuple(sorted(ranked[: self.cohort_size]))

        return choose


ParticipationSettings = Annotated[
    Everybody | Poisson | FixedSize, Field(discriminator="kind"), Choice()
]
