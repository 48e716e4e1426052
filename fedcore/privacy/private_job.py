"""What a client's training job says of privacy, from what the run promises and the client holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fedcore.privacy.calibration import calibrate
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.settings import ExampleLevel, LocalLevel, PrivacySettings
from fedcore.training.settings import TrainingSettings


def private_settings(
    privacy: PrivacySettings, training: TrainingSettings, rounds: int, size: int
) -> dict[str, Any] | None:
    """The job's ``privacy``, as JSON; None where the client itself adds no noise.

    Where the run promises an epsilon the noise is computed as if the client took part in every
    round that may ask it. ``kind`` example: the sampling rate is the expected batch over ``size``,
    whatever a loader makes of it, and a round of ``epochs`` has ``ceil(size / batch)`` steps for
    each.

    Args:
      rounds: that may ask the client, in the whole run.
      size: training records of the client.
    """
    match privacy:
        case ExampleLevel():
            batch = training.batch_size * getattr(training, "accumulation", 1)
            rate = min(1.0, batch / size)
            steps = training.steps or (training.epochs or 1) * math.ceil(size / batch)
            return {
                "kind": "example",
                "clip_norm": privacy.clip_norm,
                "noise_multiplier": _noise(privacy, rate, steps * rounds),
                "sampling_rate": rate,
                "steps": steps,
                "micro_batch": privacy.micro_batch,
                "secret": privacy.secret,
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


def event_of(private: Mapping[str, Any]) -> SampledGaussian:
    """What the accountant counts of a job's private settings."""
    if private["kind"] == "local":
        return SampledGaussian(1.0, private["noise_multiplier"] / 2, 1)
    return SampledGaussian(private["sampling_rate"], private["noise_multiplier"], private["steps"])


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
