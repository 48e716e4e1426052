"""What a run has told so far, by its records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fedcore.participation import Cyclic, public_coin, turn
from fedcore.privacy.accounting import Epsilon, over_disjoint, spent
from fedcore.privacy.budget import Budget, State, standing
from fedcore.privacy.client_round import client_event
from fedcore.privacy.disjoint import EVERYBODY, events_about, events_about_each, payer
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.ledger import group_fingerprint

if TYPE_CHECKING:
    from fedcore.config import RunConfig

UNITS = {"example": "record", "local": "client's data", "client": "client"}


@dataclass(frozen=True)
class Spending:
    """Epsilon that was spent, for neighbours that differ in one record or client, added or removed.

    Attributes:
      unit: what is hidden, a value of ``UNITS``.
      delta: chance that the promise fails.
      promised: epsilon that the run is to stay within, or None.
      is_private: False: a fixed secret made the noise, and nothing is hidden.
      events: client id -> what was released, oldest first; ``client/group`` for each group of
        persons where they have budgets; where clients are hidden, the group of clients that it is
        about, or ``""``: all.
      next: whom the next round asks, by the names of ``events``.
      step: what one more participation tells at most, where clients are hidden.
      groups: group of persons -> what was promised to it; empty where all records are alike.
    """

    unit: str
    delta: float
    promised: float | None
    is_private: bool
    events: Mapping[str, tuple[SampledGaussian, ...]]
    next: frozenset[str]
    step: SampledGaussian | None = None
    groups: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def spent(self) -> Mapping[str, Epsilon]:
        """Name of an entry of ``events`` -> epsilon; of a group also what was told about all."""
        return self._spent(self.events)

    @property
    def overall(self) -> Epsilon:
        """Of the whole run: of clients that share no person the largest counts."""
        return over_disjoint(self.spent.values())

    @property
    def overall_next(self) -> Epsilon:
        """The same after one more round like the last."""
        more = {who: (*self.events.get(who, ()), self._step(who)) for who in self.next}
        return over_disjoint(self._spent({**self.events, **more}).values())

    def _spent(self, events: Mapping[str, tuple[SampledGaussian, ...]]) -> dict[str, Epsilon]:
        about = events_about_each(events)
        return {who: spent(each, self.delta) for who, each in about.items()}

    def _step(self, who: str) -> SampledGaussian:
        return self.step or self.events[who][-1]

    def of_client(self, client: str) -> tuple[str, ...]:
        """The client's entries of ``events``: itself, or each of its groups; none that has told
        nothing."""
        return tuple(name for name in self.events if name.partition("/")[0] == client)

    def promised_to(self, name: str) -> float | None:
        """What the run is to stay within for an entry of ``events``."""
        return self.groups.get(name.partition("/")[2], self.promised)

    def left(self, name: str) -> float | None:
        """What remains of the promise for an entry of ``events``; None without a promise."""
        promised = self.promised_to(name)
        return None if promised is None else max(0.0, promised - self.spent[name].value)

    def state(self, name: str) -> State:
        """As :class:`fedcore.privacy.budget.Standing` has it; ``ok`` without a promise."""
        promised = self.promised_to(name)
        if promised is None:
            return "ok"
        events = events_about(name, self.events)
        return standing(events, Budget(promised, self.delta), self._step(name)).state

    @property
    def by_group(self) -> Mapping[str, Epsilon]:
        """Group of persons -> epsilon of its records at the client where they told most."""
        named = {group: [n for n in self.spent if n.endswith(f"/{group}")] for group in self.groups}
        return {
            group: over_disjoint(self.spent[name] for name in names)
            for group, names in named.items()
        }

    def __str__(self) -> str:
        overall = self.overall
        text = (
            f"{overall.value:.3g} per {self.unit} (delta {self.delta:g}, add or remove; "
            f"RDP {overall.rdp:.3g}, PRV {overall.prv:.3g})"
        )
        if self.groups:
            each = (f"{g} {e.value:.3g} of {self.groups[g]:g}" for g, e in self.by_group.items())
            text += "; of groups: " + ", ".join(each)
        return text if self.is_private else f"none (not private: fixed secret; would be {text})"


def spending(config: RunConfig, records: Sequence[Mapping[str, Any]]) -> Spending | None:
    """What a run has spent; None where its settings promise nothing.

    Args:
      records: JSON of the rounds, oldest first.

    Raises:
      ValueError: a record's event is none.
    """
    privacy = config.privacy
    if privacy.kind == "none":
        return None
    events: dict[str, list[SampledGaussian]] = {}
    groups: dict[str, float] = {}
    settings: Any = getattr(privacy, "groups", None)
    for record in records:
        for one in record["privacy"]:
            event, name = dict(one), one["client"]
            del event["client"]
            if group := event.pop("group", ""):
                name = group_fingerprint(name, group)
                groups[group] = settings.budget_of(group)
            events.setdefault(name, []).append(SampledGaussian.from_json(event))
    return Spending(
        UNITS[privacy.kind],
        privacy.delta,
        getattr(privacy, "data_budget", None) or privacy.epsilon,
        privacy.secret == "owner",
        {client: tuple(one) for client, one in sorted(events.items())},
        frozenset(_asked(config, events, len(records) + 1)),
        client_event(config),
        dict(sorted(groups.items())),
    )


def _asked(config: RunConfig, names: Iterable[str], round: int) -> Iterator[str]:
    """Whom a round asks, as records name them; clients only if they are among the names."""
    asking, coin = config.participation, public_coin(config.seed)
    if config.privacy.kind == "client":
        yield payer(round, asking.apart)
    elif isinstance(asking, Cyclic):
        now = turn(round, asking.groups)
        yield from (c for c in names if asking.group(c.partition("/")[0], coin) == now)
    else:
        yield from names


def warnings_about(config: RunConfig, records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A sentence on the clients whose privacy got another state with the last round; of those that
    no later round asks, none."""
    now = spending(config, records)
    if now is None or now.promised is None:
        return
    later = range(len(records) + 1, config.rounds.count + 1)[: config.participation.apart]
    asked = {who for round in later for who in _asked(config, now.events, round)}
    before = spending(config, records[:-1])
    for state, what in _WORDS.items():
        turned = [
            client
            for client in now.spent
            if client in asked
            and now.state(client) == state
            and not (before and client in before.spent and before.state(client) == state)
        ]
        if turned:

            def share(name):
                return now.spent[name].value / (now.promised_to(name) or math.inf)

            most = max(turned, key=share)
            yield (
                f"Privacy: {_named(turned)} {what}: epsilon {now.spent[most].value:.3g} of "
                f"{now.promised_to(most):g} (delta {now.delta:g})."
            )


_WORDS = {
    "warning": "may pay for one more round, or told more than 80% of what may be told",
    "exhausted": "cannot pay for one more round",
}


def _named(clients: Sequence[str], most: int = 5) -> str:
    if clients == [EVERYBODY]:
        return "all clients together"
    more = len(clients) - most
    return ", ".join(clients[:most]) + (f" and {more} more" if more > 0 else "")
