"""How much of a data owner's privacy may be spent, and how far that has got."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from fedcore.privacy.accounting import Epsilon, spent
from fedcore.privacy.events import Neighbours, SampledGaussian

State = Literal["ok", "warning", "exhausted"]
Scope = Literal["data", "run"]


class BudgetExceeded(ValueError):
    """The next event would spend more than a budget allows; nothing was released."""


@dataclass(frozen=True)
class Budget:
    """What may be spent.

    Attributes:
      epsilon: in all, above 0.
      delta: above 0, below 1.
      warn_at: share of epsilon from which the state is ``warning``.
      neighbours: which data sets must not be told apart.
      scope: of all that was ever released about the data, or of each run by itself.

    Raises:
      ValueError: a value is out of its bounds.
    """

    epsilon: float
    delta: float
    warn_at: float = 0.8
    neighbours: Neighbours = "add_or_remove"
    scope: Scope = "data"

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < math.inf:
            raise ValueError(
                f"epsilon={self.epsilon!r} must be above 0 and finite; without a promise there is "
                "no budget to keep."
            )
        if not 0 < self.warn_at <= 1:
            raise ValueError(f"warn_at={self.warn_at!r} must be above 0 and at most 1.")
        if self.scope not in get_args(Scope):
            raise ValueError(f"scope={self.scope!r} must be one of {', '.join(get_args(Scope))}.")
        self.of(())

    def of(self, events: Iterable[SampledGaussian]) -> Epsilon:
        """What events spend, in this budget's delta and neighbours."""
        return spent(events, self.delta, self.neighbours)


@dataclass(frozen=True)
class Standing:
    """A budget and what is spent of it.

    Attributes:
      budget: what may be spent.
      spent: what is.
      state: ``ok``; ``warning`` from ``warn_at`` on, and when the next event is the last one that
        fits; ``exhausted`` when the next would exceed the budget.
    """

    budget: Budget
    spent: Epsilon
    state: State

    @property
    def left(self) -> float:
        """Epsilon not spent. What it buys is more than it seems: composition is not a sum."""
        return max(0.0, self.budget.epsilon - self.spent.value)


def standing(
    events: Iterable[SampledGaussian], budget: Budget, following: SampledGaussian | None = None
) -> Standing:
    """Where events stand in a budget.

    Args:
      events: what was released so far.
      budget: what may be spent.
      following: the event each next step would be; without it only a fully spent budget is
        ``exhausted``.
    """
    events = tuple(events)
    now = budget.of(events)
    affordable = 2 if following is None else affordable_events(events, following, budget, most=2)
    state: State = "ok"
    if affordable == 0 or now.value >= budget.epsilon:
        state = "exhausted"
    elif affordable == 1 or now.value >= budget.warn_at * budget.epsilon:
        state = "warning"
    return Standing(budget, now, state)


def affordable_events(
    events: Iterable[SampledGaussian],
    following: SampledGaussian,
    budget: Budget,
    *,
    most: int = 100_000,
) -> int:
    """How many more events like ``following`` the budget allows, at most ``most``."""
    events = tuple(events)

    def fits(count: int) -> bool:
        steps = following.steps * count
        more = SampledGaussian(following.sampling_rate, following.noise_multiplier, steps)
        return budget.of((*events, more)).value <= budget.epsilon

    low, high = 0, 1  # low fits, or is none
    while high <= most and fits(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def require_affordable(
    events: Iterable[SampledGaussian], event: SampledGaussian, budget: Budget, *, whose: str
) -> None:
    """Refuses an event that the budget does not cover.

    Args:
      events: what was released so far.
      event: what would be next.
      budget: what may be spent.
      whose: the data or the run, for the message.

    Raises:
      BudgetExceeded: with what would be spent, by both bounds.
    """
    events = tuple(events)
    after = budget.of((*events, event))
    if after.value > budget.epsilon:
        raise BudgetExceeded(
            f"{whose}: epsilon would be {after.value:.4g} (RDP {after.rdp:.4g}, PRV "
            f"{after.prv:.4g}) at delta={budget.delta:g}, {budget.neighbours}; the budget is "
            f"{budget.epsilon:g}, of which {budget.of(events).value:.4g} is spent. Nothing is "
            "released. End the run with the model it has, plan fewer steps or more noise, or let "
            "the data's owner raise the budget."
        )
