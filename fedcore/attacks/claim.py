"""What a client's training costs by the accountant: no audit may prove more."""

from __future__ import annotations

import math

from fedcore.attacks.client import AttackedClient
from fedcore.privacy.accounting import spent
from fedcore.privacy.events import SampledGaussian


def accounted(client: AttackedClient, delta: float) -> float:
    """Epsilon of all rounds together; infinite when one of them is not private."""
    events = []
    for each in client.rounds:
        if (noise := each.private) is None:
            return math.inf
        events.append(SampledGaussian(noise.sampling_rate, noise.noise_multiplier, noise.steps))
    return spent(events, delta).value
