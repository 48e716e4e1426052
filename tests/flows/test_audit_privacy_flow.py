"""Privacy audits against a Prefect server: verdict, artifacts, a refuted claim, and a version that
is not promoted."""

import uuid

import numpy as np
import pytest

from fedcore.attacks.settings import PrivacyAuditSettings
from fedcore.config import SpeedSettings
from fedcore.data.settings import Arrays
from fedcore.models.settings import LogisticSettings
from fedcore.partition.settings import Iid
from fedcore.privacy.settings import ExampleLevel
from fedcore.training.settings import LoopSettings

pytestmark = pytest.mark.stack


def artifacts():
    """The newest artifact of each key."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = sorted(client.read_artifacts(), key=lambda one: one.created)
    return {one.key: one.data for one in found if one.key}


@pytest.fixture
def own(tmp_path):
    """120 pictures of noise with any label, 60 for each of two clients."""
    draw = np.random.Generator(np.random.PCG64(0))
    np.savez(
        tmp_path / "own.npz",
        train_images=draw.integers(0, 256, (120, 16, 16), dtype=np.uint8),
        train_labels=np.arange(120) % 4,
        test_images=draw.integers(0, 256, (20, 16, 16), dtype=np.uint8),
        test_labels=np.arange(20) % 4,
    )
    return Arrays(path=str(tmp_path / "own.npz"), val_fraction=0)


def with_noise_times(factor, monkeypatch):
    """Plants a fault: clients add so much of the noise that their jobs say. Counts the attacks."""
    from tasks import privacy_audit

    true, calls = privacy_audit.attacked_client, []

    def weak(*args):
        calls.append(args)
        return true(*args).with_noise(factor)

    monkeypatch.setattr(privacy_audit, "attacked_client", weak)
    return calls


def test_audit_privacy_says_pass_or_fails_with_the_verdict(on_stack, own, monkeypatch):
    from flows.audit_privacy import audit_privacy

    chosen = {
        "data": own,
        "partition": Iid(clients=2),
        "model": LogisticSettings(),
        "training": LoopSettings(batch_size=16, epochs=4, learning_rate=0.05),
        "attacks": PrivacyAuditSettings(canaries=200, shadow_models=6, reconstructions=2),
        "overrides": {"rounds.count": 2},
    }
    found = audit_privacy(**chosen)
    assert "PASS: nothing is claimed" in found["claim"]["verdict"]
    assert found["reconstruction"]["rows"][0]["cosine"] > 0.99
    assert found["membership"]["models"] == 6
    shown = artifacts()
    assert "**PASS: nothing is claimed" in shown["privacy-verdict"]
    assert "data:image/png;base64," in shown["reconstruction-audit"]
    assert "| AUC |" in shown["membership-audit"]

    with_noise_times(0, monkeypatch)  # clipping alone, sold as epsilon 0.1
    chosen["privacy"] = ExampleLevel(epsilon=0.1)
    chosen["overrides"] |= {"training.learning_rate": 0.5, "attacks.shadow_models": 0}
    state = audit_privacy(**chosen, return_state=True)
    assert state.is_failed()
    assert "ClaimRefuted: FAIL: the training claims epsilon 0.10" in state.message
    assert "**FAIL: " in artifacts()["privacy-verdict"]


def test_a_run_with_a_tenth_of_its_noise_is_attacked_once_and_not_promoted(
    on_stack, own, stack, monkeypatch
):
    import tasks.registration
    from fedcore.event_log import EventLog
    from flows.train_federated import train_federated
    from tasks.registry import tags
    from tasks.registry.connection import registry
    from tasks.registry.privacy_gate import PromotionRefused
    from tasks.registry.promote import promote

    attacks = with_noise_times(0.1, monkeypatch)
    monkeypatch.setattr(tasks.registration.register, "retries", 0)
    parameters = {
        "data": own,
        "partition": Iid(clients=2),
        "model": LogisticSettings(),
        "training": LoopSettings(batch_size=60, steps=10, learning_rate=0.5),
        "privacy": ExampleLevel(epsilon=1.0),
        "attacks": PrivacyAuditSettings(canaries=200, shadow_models=0, reconstructions=1),
        "speed": SpeedSettings(workers=0),
        "overrides": {"rounds.count": 2, "registry.model_name": f"attacked-{uuid.uuid4().hex[:8]}"},
    }
    with monkeypatch.context() as down:
        down.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        state = train_federated(**parameters, return_state=True)
    assert state.is_failed() and "MLflow" in state.message
    assert len(attacks) == 2
    run_id = str(state.state_details.flow_run_id)
    parameters |= {"start": {"kind": "resume", "run": run_id}}
    del parameters["overrides"]
    state = train_federated(**train_federated.validate_parameters(parameters), return_state=True)
    assert state.is_completed(), state.message
    assert len(attacks) == 2, "what was found stands"

    name, made = state.result()["model"], state.result()["version"]
    assert state.result()["privacy_audit"] == "refuted"
    told = EventLog(f"sqlite:///{on_stack / 'events.db'}").history(run_id)
    assert any("FAIL: the training claims epsilon 1.00" in one.message for one in told)
    with registry(stack.mlflow_url) as client:
        (version,) = client.search_model_versions(f"name = '{name}'")
        assert "challenger" not in client.get_registered_model(name).aliases
    assert float(version.tags[tags.EPSILON_AT_LEAST]) > float(version.tags[tags.EPSILON_CLAIMED])
    with pytest.raises(PromotionRefused, match=r"FAIL: the training claims epsilon 1\.00"):
        promote(stack.mlflow_url, f"{name}/{made}", who="A. Smith", why="accurate")
