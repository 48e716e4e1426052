"""What an audited client's training costs by the accountant."""

import math

import numpy as np
import pytest

from fedcore.attacks.claim import accounted, claim_of
from fedcore.attacks.client import AttackedClient, ClientRound, UpdateNoise
from fedcore.data.dataset import Split
from fedcore.models.preprocess import TablePreprocess
from fedcore.models.settings import LogisticSettings
from fedcore.privacy.settings import ClientLevel, ExampleLevel, LocalLevel, NoPrivacy
from fedcore.task import Task, TaskKind
from fedcore.training.private.example_noise import ExampleNoise
from fedcore.training.settings import LoopSettings


def client(*noises):
    return AttackedClient(
        "a",
        Split(np.zeros((4, 2), np.float32), np.zeros(4, np.int64)),
        Task(TaskKind.BINARY, ("no", "yes")),
        LogisticSettings(),
        TablePreprocess(),
        tuple(ClientRound(LoopSettings(), 0.1, noise) for noise in noises),
        seed=0,
    )


def test_what_is_claimed_is_what_all_rounds_cost():
    half = ExampleNoise(clip_norm=1.0, noise_multiplier=17.0, sampling_rate=1.0, steps=10)
    # 20 Gaussians of 17 are one of 17 / sqrt 20: epsilon 0.98 at delta 1e-5, whatever the rounds.
    assert 0.97 < accounted(client(half, half), 1e-5) < 0.99
    assert accounted(client(half), 1e-5) < 0.75
    assert accounted(client(half, None), 1e-5) == math.inf
    assert accounted(client(half).with_noise(0), 1e-5) == math.inf
    # A whole update may change by two clip norms.
    assert accounted(client(UpdateNoise(1.0, 8.0)), 1e-5) == accounted(
        client(ExampleNoise(1.0, 4.0, sampling_rate=1.0, steps=1)), 1e-5
    )


def test_the_claim_is_the_promise_or_what_the_noise_costs():
    private = client(ExampleNoise(1.0, 4.0, sampling_rate=1.0, steps=1))
    assert claim_of(NoPrivacy(), private) == (math.inf, 1e-5)
    assert claim_of(ExampleLevel(epsilon=3.0, delta=1e-6), private) == (3.0, 1e-6)
    assert claim_of(LocalLevel(epsilon=3.0), private) == (3.0, 1e-5)
    assert claim_of(ExampleLevel(noise_multiplier=4.0), private)[0] == accounted(private, 1e-5)
    with pytest.raises(ValueError, match=r"privacy\.kind=client adds its noise to the sum"):
        claim_of(ClientLevel(epsilon=3.0), private)
