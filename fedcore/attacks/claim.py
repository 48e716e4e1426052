"""What a client's training claims: no audit may prove more."""

from __future__ import annotations

import math

from fedcore.attacks.checks import HIDES_CLIENTS
from fedcore.attacks.client import AttackedClient, UpdateNoise
from fedcore.privacy.accounting import spent
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.settings import ClientLevel, NoPrivacy, PrivacySettings

UNCLAIMED_DELTA = 1e-5


def claim_of(privacy: PrivacySettings, client: AttackedClient) -> tuple[float, float]:
    """(epsilon, delta) of a record; what the noise costs where no epsilon is named.

    Raises:
      ValueError: the promise is about whole clients, and its noise is not the client's.
    """
    if isinstance(privacy, NoPrivacy):
        return math.inf, UNCLAIMED_DELTA
    if isinstance(privacy, ClientLevel):
        raise ValueError(f"{HIDES_CLIENTS} Audit example or local.")
    return privacy.epsilon or accounted(client, privacy.delta), privacy.delta


def accounted(client: AttackedClient, delta: float) -> float:
    """Epsilon of all rounds together; infinite when one of them is not private."""
    events = []
    for each in client.rounds:
        if (noise := each.private) is None:
            return math.inf
        if isinstance(noise, UpdateNoise):  # two updates can be 2 clip_norm apart
            events.append(SampledGaussian(1.0, noise.noise_multiplier / 2))
        else:
            events.append(SampledGaussian(noise.sampling_rate, noise.noise_multiplier, noise.steps))
    return spent(events, delta).value
