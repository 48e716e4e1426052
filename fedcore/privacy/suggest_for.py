"""Suggestions for a configuration: what is sampled in it, and the overrides that follow."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedcore.privacy.private_job import expected_batch, steps_in_a_round
from fedcore.privacy.settings import ClientLevel, ExampleLevel, LocalLevel, NoPrivacy
from fedcore.privacy.suggestion import COMPUTE, Candidate, Suggestion, smallest_epsilon, suggest

if TYPE_CHECKING:
    from fedcore.config import RunConfig


@dataclass(frozen=True)
class Sampling:
    """What the accountant sees of a configuration.

    Attributes:
      of: what is sampled: ``records`` or ``clients``.
      population: how many there are.
      batch: expected in a step.
      steps: in the whole run.
    """

    of: str
    population: int
    batch: int
    steps: int


def sampling_of(config: RunConfig, sizes: Sequence[int]) -> Sampling:
    """What a configuration samples from; without ``privacy`` as if it hid each record.

    Clients have different numbers of records and one batch size: the client in the middle counts.

    Args:
      sizes: training records of each client, at least one client.

    Raises:
      ValueError: nothing is sampled, so that there is no batch to choose.
    """
    if not sizes:
        raise ValueError("sizes has no client; a suggestion needs the records of at least one.")
    privacy, rounds = config.privacy, config.rounds.count
    if isinstance(privacy, ClientLevel):
        rate = float(getattr(config.participation, "sampling_probability", 1.0))
        return Sampling("clients", len(sizes), max(1, round(rate * len(sizes))), rounds)
    if isinstance(privacy, ExampleLevel | NoPrivacy):
        size = int(statistics.median_low(sizes))
        steps = steps_in_a_round(config.training, size)
        return Sampling("records", size, min(size, expected_batch(config.training)), steps * rounds)
    raise ValueError(
        f"privacy.kind={privacy.kind} has no batch to choose: its noise depends on rounds.count "
        "alone. Take fewer rounds, or privacy.kind=example."
    )


def suggest_for(
    config: RunConfig,
    sizes: Sequence[int],
    *,
    epsilon: float | None = None,
    delta: float | None = None,
    compute: float = COMPUTE,
) -> tuple[Sampling, Suggestion]:
    """A batch for a promise: the configuration's, or another.

    Args:
      sizes: as for :func:`sampling_of`.
      epsilon: None: the configuration's, or what its noise can promise at best, or 8.
      delta: None: the configuration's, or 1e-5.
      compute: as for :func:`fedcore.privacy.suggestion.suggest`.

    Raises:
      ValueError: nothing is sampled, or the promise cannot be kept or is none.
    """
    sampling = sampling_of(config, sizes)
    settings = ExampleLevel() if isinstance(config.privacy, NoPrivacy) else config.privacy
    delta = delta or settings.delta
    epsilon = epsilon or settings.epsilon
    if epsilon is None:
        assert settings.noise_multiplier is not None
        epsilon = smallest_epsilon(
            settings.noise_multiplier, delta, sampling.population, sampling.batch, sampling.steps
        ).value
    batches = None
    if (several := getattr(config.training, "accumulation", None)) and sampling.of == "records":
        one = expected_batch(config.training) // several  # what is in memory stays as it is
        batches = [one * 2**power for power in range(20) if one * 2**power <= sampling.population]
    return sampling, suggest(
        epsilon,
        delta,
        sampling.population,
        sampling.batch,
        sampling.steps,
        batches=batches,
        compute=compute,
    )


def overrides_of(config: RunConfig, found: Suggestion, taken: Candidate) -> Mapping[str, Any]:
    """What a configuration needs to run with a candidate, by dotted key; nothing that it has."""
    privacy, training = config.privacy, config.training
    wanted: dict[str, Any] = {}
    if isinstance(privacy, NoPrivacy):
        wanted["privacy.kind"] = "example"
    if getattr(privacy, "epsilon", None) != found.epsilon:
        wanted["privacy.epsilon"] = found.epsilon
    if getattr(privacy, "noise_multiplier", None) is not None:
        wanted["privacy.noise_multiplier"] = None
    if getattr(privacy, "delta", ExampleLevel().delta) != found.delta:
        wanted["privacy.delta"] = found.delta
    if isinstance(privacy, ClientLevel):
        rate = taken.sampling_rate
        if rate != getattr(config.participation, "sampling_probability", 1.0):
            wanted["participation.kind"] = "poisson" if rate < 1 else "everybody"
            wanted |= {"participation.sampling_probability": rate} if rate < 1 else {}
        return wanted
    assert not isinstance(privacy, LocalLevel)
    if taken.batch != expected_batch(training):
        if (accumulation := getattr(training, "accumulation", None)) is None:
            wanted["training.batch_size"] = taken.batch
        else:
            one = expected_batch(training) // accumulation
            wanted["training.accumulation"] = max(1, taken.batch // one)
        if training.steps is None:  # by epochs another batch would be another number of steps
            steps = max(1, round(taken.steps / config.rounds.count))
            wanted |= {"training.epochs": None, "training.steps": steps}
    return wanted
