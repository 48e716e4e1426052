"""Who is asked in a round: everybody, coins, a fixed number, or one group after the other."""

from __future__ import annotations

from collections import Counter
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


class _Asking(Settings):
    """What plans and accountants ask of every way to choose."""

    @property
    def apart(self) -> int:
        """A client that was asked is asked again after so many rounds, at the earliest."""
        return 1

    @property
    def sampling_rate(self) -> float:
        """Chance of a client by coins that nobody else knows; 1: nobody is drawn."""
        return 1.0

    def expected(self, clients: float) -> float:
        """How many (or how much) of the clients a round asks, on average."""
        return clients

    def least(self, clients: Sequence[str], coin: Coin) -> int:
        """The fewest that a round asks, apart from rounds that ask nobody or toss coins."""
        return len(clients)

    def participations(self, rounds: int) -> int:
        """The most rounds that ask any one client."""
        return -(-rounds // self.apart)


class Everybody(_Asking):
    """Every client in every round."""

    kind: Literal["everybody"] = "everybody"

    def build(self) -> Participation:
        """(clients, round, coin) -> the sorted cohort."""
        return lambda clients, round, coin: tuple(sorted(clients))


class Poisson(_Asking, title="Coins"):
    """An independent coin per (round, client): removing a client moves nobody else.

    The cohort's size varies and may be zero; what accountants of subsampled mechanisms assume.
    """

    kind: Literal["poisson"] = "poisson"
    sampling_probability: float = Field(
        gt=0, le=1, description="Chance of each client, a round.", json_schema_extra=starts_at(0.5)
    )

    @property
    def sampling_rate(self) -> float:
        """The coins are tossed where nobody sees them."""
        return self.sampling_probability

    def expected(self, clients: float) -> float:
        """The mean of a binomial distribution."""
        return self.sampling_probability * clients

    def build(self) -> Participation:
        """(clients, round, coin) -> the sorted cohort."""
        q = self.sampling_probability
        return lambda clients, round, coin: tuple(sorted(c for c in clients if coin(round, c) < q))


class FixedSize(_Asking, title="Fixed number"):
    """The clients with the smallest coins: uniform without replacement, always the same size.

    Breaks two things: removing a client lets another one in, so unlearning is no longer exact; and
    accountants that assume Poisson sampling under-report, so privacy settings refuse it.
    """

    kind: Literal["fixed"] = "fixed"
    cohort_size: int = Field(
        gt=0, description="Clients asked in each round.", json_schema_extra=starts_at(2)
    )

    def expected(self, clients: float) -> float:
        """Always the same."""
        return float(self.cohort_size)

    def least(self, clients: Sequence[str], coin: Coin) -> int:
        """Always the same."""
        return self.cohort_size

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


class Cyclic(_Asking, title="In turn"):
    """Groups of clients, one after the other: round 1 asks group 1, and after the last the first.

    A coin of the run's seed puts each client in its group, for good: removing a client moves nobody
    else. Two participations of a client are always as many rounds apart as there are groups, which
    correlated noise counts on (privacy.correlation), and nothing has to be secret.
    """

    kind: Literal["cyclic"] = "cyclic"
    groups: int = Field(
        ge=1,
        le=1024,
        description="Number of groups; of about equal size.",
        json_schema_extra=starts_at(4),
    )

    @property
    def apart(self) -> int:
        """As many rounds as there are groups."""
        return self.groups

    def expected(self, clients: float) -> float:
        """A group's share."""
        return clients / self.groups

    def least(self, clients: Sequence[str], coin: Coin) -> int:
        """The smallest group that somebody is in."""
        return min(Counter(self.group(client, coin) for client in clients).values(), default=0)

    def group(self, client: str, coin: Coin) -> int:
        """A client's group, from 1."""
        return 1 + int(self.groups * coin(0, client))

    def build(self) -> Participation:
        """(clients, round, coin) -> the sorted cohort; the coin must be a public one."""
        return lambda clients, round, coin: tuple(
            sorted(c for c in clients if self.group(c, coin) == turn(round, self.groups))
        )


def turn(round: int, groups: int) -> int:
    """The group that a round asks, from 1.

    >>> [turn(round, 3) for round in (1, 2, 3, 4)]
    [1, 2, 3, 1]
    """
    return (round - 1) % groups + 1


ParticipationSettings = Annotated[
    Everybody | Poisson | FixedSize | Cyclic, Field(discriminator="kind"), Choice()
]
