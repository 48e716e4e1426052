"""The runs of a grid, each a whole configuration of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fedcore.config import ConfigError, RunConfig, in_order, make_config, set_value, validated
from fedcore.trade_off.settings import GridSettings, NoReference, WithoutNoise

REFERENCE = "reference"


@dataclass(frozen=True)
class Point:
    """One run of a grid.

    Attributes:
      epsilon: that it may tell; None: of the reference.
      learning_rate: that is tried, or None where the configuration's is the only one.
      config: what runs.
    """

    epsilon: float | None
    learning_rate: float | None
    config: RunConfig

    @property
    def name(self) -> str:
        """As the operator reads it in the graph: ``epsilon-3/seed-0``."""
        what = REFERENCE if self.epsilon is None else f"epsilon-{self.epsilon:g}"
        rate = "" if self.learning_rate is None else f"/rate-{self.learning_rate:g}"
        return f"{what}{rate}/seed-{self.config.seed}"


def make_grid(overrides: Mapping[str, Any], *, source: str = "the grid") -> GridSettings:
    """The default grid with other values by dotted key, e.g. ``{"epsilons": [1, 3]}``.

    Raises:
      ConfigError: unknown key, wrong type or value out of bounds.
    """
    values = GridSettings().model_dump(mode="json")
    for key in in_order(overrides):
        set_value(values, key, overrides[key], source)
    return validated(GridSettings, values, f"{source} cannot be used")


def points_of(config: RunConfig, grid: GridSettings) -> tuple[Point, ...]:
    """All runs, seed by seed, so that the first seed already shows the whole curve.

    A run is measured once, at its end, unless its round is chosen on validation data; each
    client's own scores are left out. Neither changes what is trained.

    Raises:
      ConfigError: a run cannot be, e.g. without ``privacy``; the message names the run.
    """
    if config.privacy.kind == "none":
        raise ConfigError(
            "privacy.kind=none has no epsilon to try; take example (each record), client or local."
        )
    return tuple(
        Point(epsilon, rate, _configured(config, grid, epsilon, rate, seed))
        for seed in grid.seeds
        for epsilon, rate in _tried(grid)
    )


def _tried(grid: GridSettings) -> Iterator[tuple[float | None, float | None]]:
    """(epsilon, learning rate) of each run of a seed."""
    if not isinstance(grid.reference, NoReference):
        yield from ((None, rate) for rate in grid.reference.learning_rates or (None,))
    for epsilon in sorted(grid.epsilons):
        yield from ((epsilon, rate) for rate in grid.learning_rates or (None,))


def _configured(
    config: RunConfig, grid: GridSettings, epsilon: float | None, rate: float | None, seed: int
) -> RunConfig:
    measured: dict[str, Any] = {
        "evaluation.splits": sorted({*config.evaluation.splits, grid.split}),
        "evaluation.clients": False,
    }
    if config.evaluation.choose == "last":
        measured["evaluation.every"] = config.rounds.count
    tried = {} if rate is None else {"training.learning_rate": rate}
    changes = {"seed": seed, **measured, **_promise(grid, epsilon), **tried}
    name = REFERENCE if epsilon is None else f"epsilon {epsilon:g}"
    return make_config(config.model_dump(mode="json"), changes, source=f"{name}, seed {seed},")


def _promise(grid: GridSettings, epsilon: float | None) -> Mapping[str, Any]:
    """What a run promises, and for the reference what else it has of its own."""
    if epsilon is not None:
        return {"privacy.epsilon": epsilon, "privacy.noise_multiplier": None}
    assert not isinstance(grid.reference, NoReference)
    if isinstance(grid.reference, WithoutNoise):
        # With the owner's secret its ledger would be charged with infinity.
        clipped = {"epsilon": None, "noise_multiplier": 0.0, "secret": "fixed"}
        promise: dict[str, Any] = {f"privacy.{name}": value for name, value in clipped.items()}
    else:
        promise = {"privacy.kind": "none"}
    return {**promise, **grid.reference.changes}
