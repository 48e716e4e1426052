"""Who pays for a release that is not about everybody, and what anybody may have paid in all.

Groups of one family have nobody in common: groups of persons, and groups of clients that are as
many, by the same coins. Their costs compose as the largest one (McSherry 2009, theorem 4). Groups
of two families have, and everybody is everybody: those costs add up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from fedcore.participation import turn
from fedcore.privacy.events import SampledGaussian

EVERYBODY = ""  # the name under which a release about all clients is recorded
_GROUP = re.compile(r"(?:(?P<whole>.*)/)?(?P<by>(?:seed \d+, )?)group \d+ of (?P<of>\d+)")
_PERSONS = "persons"  # the family of a client's groups of persons
_Events = Sequence[SampledGaussian]


def payer(round: int, groups: int) -> str:
    """The name under which a round's participations are recorded.

    >>> payer(1, 4), payer(8, 4), payer(3, 1)
    ('group 1 of 4', 'group 4 of 4', '')
    """
    return EVERYBODY if groups == 1 else f"group {turn(round, groups)} of {groups}"


def payer_fingerprint(data: str, seed: int, name: str) -> str:
    """Fingerprint of one group's data in a ledger, over runs whose coins are those of their seeds.

    >>> payer_fingerprint("data", 7, "group 1 of 4"), payer_fingerprint("data", 7, "")
    ('data/seed 7, group 1 of 4', 'data')
    """
    return f"{data}/seed {seed}, {name}" if name else data


def events_about(who: str, events: Mapping[str, _Events]) -> tuple[SampledGaussian, ...]:
    """All events that somebody recorded as ``who`` may have paid for.

    Its own, those about all the data that it is part of, and of each other family the costliest
    group's.

    Args:
      who: a name, or a fingerprint.
      events: by name or fingerprint. Those of another family than the one of ``who`` are compared
        as unsampled ones; with groups of persons ask about each group.
    """
    whole, family = _split(who)
    found, others = list(events.get(who, ())), dict[str, list[_Events]]()
    for name, each in events.items():
        of, by = _split(name)
        if name == who or of != whole or (by is not None and by == family):
            continue
        if by is None:
            found += each
        else:
            others.setdefault(by, []).append(each)
    for groups in others.values():
        worst: _Events = max(groups, key=_cost)
        found += worst
    return tuple(found)


def events_about_each(events: Mapping[str, _Events]) -> dict[str, tuple[SampledGaussian, ...]]:
    """:func:`events_about` of every name."""
    related: dict[str, dict[str, _Events]] = {}
    for name, each in events.items():
        related.setdefault(_split(name)[0], {})[name] = each
    return {name: events_about(name, related[_split(name)[0]]) for name in events}


def costliest(events: Iterable[SampledGaussian]) -> SampledGaussian:
    """The event with the least noise."""
    return min(events, key=lambda event: event.noise_multiplier)


def _cost(events: _Events) -> float:
    """The squared parameter of the Gaussian that unsampled ones compose to; orders any of them."""
    return sum(
        each.steps / each.noise_multiplier**2 if each.noise_multiplier else float("inf")
        for each in events
    )


@lru_cache(maxsize=65536)
def _split(name: str) -> tuple[str, str | None]:
    """What a name is a group of, and its family; the name itself and None when it is no group."""
    if found := _GROUP.fullmatch(name):
        return found["whole"] or EVERYBODY, f"{found['by']}{found['of']}"
    whole, slash, _ = name.partition("/")
    return whole, _PERSONS if slash else None
