"""What a client's training job says of privacy, from what the run promises and the client holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fedcore.privacy.budget import Budget
from fedcore.privacy.calibration import calibrate
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.group_settings import NoGroups
from fedcore.privacy.group_terms import GroupTerms, mechanism
from fedcore.privacy.settings import ExampleLevel, LocalLevel, PrivacySettings
from fedcore.training.private.example_noise import ExampleNoise, GroupShare
from fedcore.training.settings import TrainingSettings

EVERY_RECORD = ""  # the group that all records are in where none have budgets of their own
_EXAMPLE = ("clip_norm", "noise_multiplier", "sampling_rate", "steps", "micro_batch")


def private_settings(
    privacy: PrivacySettings,
    training: TrainingSettings,
    rounds: int,
    size: int,
    groups: Mapping[str, int] | None = None,
) -> dict[str, Any] | None:
    """The job's ``privacy``, as JSON; None where the client itself adds no noise.

    Where the run promises an epsilon the noise is computed as if the client took part in every
    round that may ask it. ``kind`` example: the sampling rate is the expected batch over ``size``,
    whatever a loader makes of it, and a round of ``epochs`` has ``ceil(size / batch)`` steps for
    each.

    Args:
      rounds: that may ask the client, in the whole run.
      size: training records of the client.
      groups: group of persons -> training records of the client, where the data have groups.

    Raises:
      ValueError: groups have budgets, and a record is in no group or one without a budget.
    """
    match privacy:
        case ExampleLevel():
            batch, steps = expected_batch(training), steps_in_a_round(training, size)
            rate = min(1.0, batch / size)
            return {
                "kind": "example",
                "clip_norm": privacy.clip_norm,
                "sampling_rate": rate,
                "steps": steps,
                "micro_batch": privacy.micro_batch,
                "secret": privacy.secret,
                **_mechanism(privacy, rate, steps * rounds, groups or {}),
            }
        case LocalLevel():
            # Two data sets can give updates that are 2 clip_norm apart: half of the noise counts.
            return {
                "kind": "local",
                "clip_norm": privacy.clip_norm,
                "noise_multiplier": 2 * _noise(privacy, 1.0, rounds),
                "secret": privacy.secret,
            }
    return None


def expected_batch(training: TrainingSettings) -> int:
    """Records that a step of a client's training expects."""
    return training.batch_size * getattr(training, "accumulation", 1)


def steps_in_a_round(training: TrainingSettings, size: int) -> int:
    """Steps of a client with so many training records in a round."""
    return training.steps or (training.epochs or 1) * math.ceil(size / expected_batch(training))


def _mechanism(
    privacy: ExampleLevel, rate: float, steps: int, sizes: Mapping[str, int]
) -> dict[str, Any]:
    """The noise and, where groups have budgets, how each takes part."""
    if isinstance(privacy.groups, NoGroups):
        return {"noise_multiplier": _noise(privacy, rate, steps)}
    return mechanism(
        privacy.groups,
        sizes,
        delta=privacy.delta,
        clip_norm=privacy.clip_norm,
        sample_rate=rate,
        steps=steps,
    ).to_json()


def events_of(private: Mapping[str, Any]) -> dict[str, SampledGaussian]:
    """What the accountant counts of a job's private settings: group of persons -> its event, or one
    under ``""`` where all records are alike."""
    if private["kind"] == "local":
        return {EVERY_RECORD: SampledGaussian(1.0, private["noise_multiplier"] / 2, 1)}
    steps = private["steps"]
    if groups := private.get("groups"):
        return {group: GroupTerms(**terms).event(steps) for group, terms in groups.items()}
    rate, noise = private["sampling_rate"], private["noise_multiplier"]
    return {EVERY_RECORD: SampledGaussian(rate, noise, steps)}


def example_noise(private: Mapping[str, Any]) -> ExampleNoise:
    """The mechanism in the training itself, of settings whose ``kind`` is example."""
    groups = {
        group: GroupShare(terms["sampling_rate"], terms["clip_norm"])
        for group, terms in private.get("groups", {}).items()
    }
    return ExampleNoise(**{name: private[name] for name in _EXAMPLE}, groups=groups)


def group_budgets(private: Mapping[str, Any]) -> dict[str, Budget]:
    """Group of persons -> what its records may tell in all runs; empty where all are alike."""
    return {
        group: Budget(terms["epsilon"], terms["delta"])
        for group, terms in private.get("groups", {}).items()
    }


def data_budget(privacy: PrivacySettings) -> dict[str, float] | None:
    """What a client's data may tell in all runs, as JSON; None: no bound of the run's own."""
    if not isinstance(privacy, ExampleLevel) or privacy.data_budget is None:
        return None
    return {"epsilon": privacy.data_budget, "delta": privacy.delta}


def protects_records(privacy: PrivacySettings) -> bool:
    """Whether what leaves a client hides its records behind noise that only it can compute."""
    return isinstance(privacy, ExampleLevel | LocalLevel) and privacy.secret == "owner"


def _noise(privacy: ExampleLevel | LocalLevel, rate: float, steps: int) -> float:
    """The multiplier that was set, or the one for the epsilon that was; for ``local`` in units of
    the distance between two updates."""
    if privacy.noise_multiplier is not None:
        return privacy.noise_multiplier / (2 if isinstance(privacy, LocalLevel) else 1)
    assert privacy.epsilon is not None
    return calibrate(privacy.epsilon, privacy.delta, rate, steps)
