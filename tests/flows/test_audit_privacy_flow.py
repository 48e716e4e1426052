"""The audit-privacy flow against a Prefect server: verdict, artifacts, and a refuted claim."""

from dataclasses import replace

import numpy as np
import pytest

from fedcore.attacks.settings import PrivacyAuditSettings
from fedcore.data.settings import Arrays
from fedcore.models.settings import LogisticSettings
from fedcore.partition.settings import Iid
from fedcore.training.private.example_noise import ExampleNoise
from fedcore.training.settings import LoopSettings

pytestmark = pytest.mark.stack


def artifacts():
    """The newest artifact of each key."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = sorted(client.read_artifacts(), key=lambda one: one.created)
    return {one.key: one.data for one in found if one.key}


def test_audit_privacy_says_pass_or_fails_with_the_verdict(on_stack, tmp_path, monkeypatch):
    from flows.audit_privacy import audit_privacy
    from tasks import privacy_audit

    draw = np.random.Generator(np.random.PCG64(0))
    np.savez(
        tmp_path / "own.npz",
        train_images=draw.integers(0, 256, (120, 16, 16), dtype=np.uint8),
        train_labels=np.arange(120) % 4,
        test_images=draw.integers(0, 256, (20, 16, 16), dtype=np.uint8),
        test_labels=np.arange(20) % 4,
    )
    chosen = {
        "data": Arrays(path=str(tmp_path / "own.npz"), val_fraction=0),
        "partition": Iid(clients=2),
        "model": LogisticSettings(),
        "training": LoopSettings(batch_size=16, epochs=4, learning_rate=0.05),
        "attacks": PrivacyAuditSettings(canaries=200, shadow_models=6, reconstructions=2),
        "overrides": {"rounds.count": 2},
    }
    found = audit_privacy(**chosen)
    assert "PASS: nothing is claimed" in found["claim"]["verdict"]
    assert found["reconstruction"][0]["cosine"] > 0.99
    assert found["membership"]["models"] == 6
    shown = artifacts()
    assert "**PASS: nothing is claimed" in shown["privacy-verdict"]
    assert "data:image/png;base64," in shown["reconstruction-audit"]
    assert "| AUC |" in shown["membership-audit"]

    # Clipping alone, sold as epsilon 0.1.
    attacked = privacy_audit.attacked_client

    def clipped(*args):
        client = attacked(*args)
        private = ExampleNoise(1.0, 0.0, sampling_rate=0.5, steps=20)
        each = replace(client.rounds[0], private=private, learning_rate=0.5)
        return replace(client, rounds=(each, each))

    monkeypatch.setattr(privacy_audit, "attacked_client", clipped)
    monkeypatch.setattr(privacy_audit, "claim_of", lambda config, client: (0.1, 1e-5))
    state = audit_privacy(**chosen, return_state=True)
    assert state.is_failed()
    assert "ClaimRefuted: FAIL: the training claims epsilon 0.10" in state.message
    assert "**FAIL: " in artifacts()["privacy-verdict"]
