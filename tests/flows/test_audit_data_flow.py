"""The audit-data flow against a Prefect server: reports, artifacts, and failure with the reason."""

import numpy as np
import pytest

from fedcore.audit.settings import AuditSettings
from fedcore.data.settings import Arrays, Digits
from fedcore.partition.settings import Dirichlet

pytestmark = pytest.mark.stack


def artifacts():
    """The newest artifact of each key."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = sorted(client.read_artifacts(), key=lambda one: one.created)
    return {one.key: one.data for one in found if one.key}


def test_audit_data_reports_and_fails_with_its_reason(on_stack, tmp_path):
    from flows.audit_data import audit_data

    reports = audit_data(Digits(), AuditSettings(), Dirichlet(clients=4), 3)
    assert reports["data"]["passed"] and reports["partition"]["passed"]
    assert "**Passed: no errors" in artifacts()["data-audit"]
    assert "partition into 4 clients" in artifacts()["partition-audit"]

    draw = np.random.Generator(np.random.PCG64(0))
    images = draw.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    images[35] = images[2]
    labels = np.arange(40) % 2
    names = {"train": slice(0, 30), "test": slice(30, 40)}
    kept = {f"{name}_images": images[part] for name, part in names.items()}
    kept |= {f"{name}_labels": labels[part] for name, part in names.items()}
    np.savez(tmp_path / "own.npz", **kept)
    own = Arrays(path=str(tmp_path / "own.npz"), val_fraction=0)
    state = audit_data(own, return_state=True)
    assert state.is_failed()
    assert "DataAuditFailed: The audit of" in state.message
    assert "1 image is in both train and test (1 in train, 1 in test)" in state.message
    assert "**Failed. The audit of" in artifacts()["data-audit"]
    passed = audit_data(own, AuditSettings(remedy="drop-from-train"))
    assert passed["data"]["dropped"] == {"train": [2]}
