"""train-federated on the real stack: parity, memo, what fails, what the operator sees."""

import errno
import socket
import time
import uuid

import numpy as np
import pytest
from prefect import flow, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.events.filters import EventFilter, EventNameFilter, EventRelatedFilter
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry, Suspended

from fedcore.chain import Chain
from fedcore.config import make_config
from fedcore.engines.in_process import InProcessEngine
from fedcore.event_log import EventLog
from fedcore.event_sink import deliver_leftovers
from fedcore.events import EventType
from fedcore.facts import stage
from fedcore.run import run_federated
from fedcore.store import Store
from tasks.progress import telling

pytestmark = pytest.mark.stack

SMALL = {
    "data": {"kind": "digits", "limit": 300},
    "partition": {"kind": "dirichlet", "clients": 3, "alpha": 1.0},
    "audit": {"remedy": "drop-from-train"},
    "model": {"kind": "mlp", "hidden": [8], "dropout": 0.2},
    "training": {"kind": "loop", "learning_rate": 0.1, "batch_size": 16},
    "rounds": {"count": 2},
    "registry": {"register_model": False},
}


def train(sections, **overrides):
    """(state, id of the flow run)."""
    from flows.train_federated import train_federated

    parameters = train_federated.validate_parameters({**sections, "overrides": overrides})
    state = train_federated(**parameters, return_state=True)
    return state, str(state.state_details.flow_run_id)


def closed_port():
    """A loopback port where nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def retry(run_id):
    """What the console's Retry button does, with this process as the worker."""
    from flows.train_federated import train_federated

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(uuid.UUID(run_id), AwaitingRetry(), force=True)
        flow_run = client.read_flow_run(uuid.UUID(run_id))
    parameters = train_federated.validate_parameters(flow_run.parameters)
    return run_flow(train_federated, flow_run, parameters, return_type="state")


def in_process(folder, sections):
    store = Store(folder / "store")
    engine = InProcessEngine(store, folder / "cache")
    return run_federated(make_config(sections), store=store, engine=engine, run_id="alone")[1]


def records(home, run_id):
    return list(Chain(Store(home / "store"), run_id).records())


def artifacts(run_id):
    """key -> data of the run's newest artifacts."""
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[uuid.UUID(run_id)]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=of_run)
    return {one.key: one.data for one in sorted(found, key=lambda one: one.created)}


def events(home, run_id):
    return EventLog(f"sqlite:///{home / 'events.db'}").history(run_id)


def in_prefect(run_id):
    """(id, name) of the events that Prefect's server has of a run."""
    of_run = EventFilter(
        event=EventNameFilter(prefix=["fedloom."]),
        related=EventRelatedFilter(id=[f"prefect.flow-run.{run_id}"]),
    )
    with get_client(sync_client=True) as client:
        wanted = {"filter": of_run.model_dump(mode="json"), "limit": 50}
        found = client._client.post("/events/filter", json=wanted).raise_for_status().json()
    return {(one["id"], one["event"]) for one in found["events"]}


def until(condition):
    for _ in range(120):
        if condition():
            return
        time.sleep(0.25)
    raise AssertionError("it did not happen in 30 s")


def test_mapped_equals_in_process_and_the_memo_answers_everything(on_stack, tmp_path):
    alone = in_process(tmp_path, SMALL)
    state, run_id = train(SMALL)
    assert state.is_completed(), state.message
    assert state.result()["final_digest"] == alone.final_digest
    assert [r.digest for r in records(on_stack, run_id)] == [r.digest for r in alone.records]
    state, again = train({**SMALL, "speed": {"workers": 0}})
    trained = [e for e in events(on_stack, again) if e.type is EventType.CLIENT_TRAIN_COMPLETED]
    assert len(trained) == 6 and {e.status for e in trained} == {"reused"}
    assert state.result()["final_digest"] == alone.final_digest

    told = events(on_stack, run_id)
    statuses = [e.status for e in told if e.type.startswith("run_")]
    assert statuses == ["requested", "completed"]
    until(lambda: in_prefect(run_id) == {(e.event_id, f"fedloom.{e.type}") for e in told})

    shown = artifacts(run_id)
    assert {"plan", "round-001", "round-002", "progress", "report", "data-audit"} <= set(shown)
    assert shown["progress"] == 100.0
    assert "| client-001 | done |" in shown["round-002"]
    assert make_config(SMALL).digest in shown["plan"]


def test_a_client_that_cannot_train_is_shown_recorded_and_left_out(on_stack, tmp_path):
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(60, 4)).astype(np.float32)
    owners = np.repeat(["north", "south", "west"], 20)
    inputs[owners == "south"] *= np.float32(1e30)
    held = {"train": slice(None), "test": owners != "south"}
    arrays = {}
    for split, rows in held.items():
        shift = 0.001 * (split == "test")
        arrays[f"{split}_inputs"] = inputs[rows] + np.float32(shift)
        arrays[f"{split}_labels"] = (np.arange(60) % 2)[rows]
        arrays[f"{split}_owners"] = owners[rows]
    np.savez(tmp_path / "own.npz", **arrays)
    sections = {
        **SMALL,
        "data": own_arrays(tmp_path / "own.npz"),
        "partition": {"kind": "by_owner"},
        "preprocessing": {"standardise": "none"},
        "audit": {"remedy": "accept"},
        "rounds": {"count": 1, "min_clients": 2},
    }
    state, run_id = train(sections)
    assert state.is_completed(), state.message
    (record,) = records(on_stack, run_id)
    assert record.outcomes["south"]["status"] == "failed"
    assert "TrainingDiverged" in record.outcomes["south"]["reason"]
    assert record.outcomes["north"]["status"] == "done"
    assert "| south | failed |" in artifacts(run_id)["round-001"]

    state, run_id = train(sections, **{"rounds.min_clients": 3})
    assert state.is_failed() and "round 1: 2 of 3 clients finished" in state.message
    assert records(on_stack, run_id) == []


def own_arrays(path):
    names = {"inputs": "{split}_inputs", "targets": "{split}_labels", "owner": "{split}_owners"}
    return {"kind": "arrays", "path": str(path), "val_fraction": 0, "task": "binary", **names}


def test_an_audit_error_fails_the_run_before_training_with_one_sentence(on_stack):
    state, run_id = train(SMALL, **{"audit.min_class_support": 9999})
    assert state.is_failed() and "have fewer than 9999 samples in train" in state.message
    assert not (on_stack / "store" / "runs").exists()
    assert "**Failed. The audit of digits" in artifacts(run_id)["data-audit"]


def test_a_wrong_parameter_fails_with_its_place_and_rule(on_stack):
    state, _ = train(SMALL, **{"rounds.cuont": 3})
    assert state.is_failed() and "rounds.cuont: unknown key; did you mean count" in state.message


def test_mlflow_down_loses_no_training_and_a_retry_logs_it(on_stack, monkeypatch):
    """The retry is Prefect's own: the same flow run, started again from its first line."""
    import tasks.registration

    monkeypatch.setattr(tasks.registration.register, "retries", 0)
    with monkeypatch.context() as down:
        down.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port()}")
        state, run_id = train(SMALL)
    assert state.is_failed() and "MLflow" in state.message, state.message
    before = [r.digest for r in records(on_stack, run_id)]
    assert len(before) == 2
    state = retry(run_id)
    assert state.is_completed(), state.message
    assert state.result()["mlflow_run"]
    told = [(e.type, e.status, e.round) for e in events(on_stack, run_id) if "run_" in e.type]
    assert told == [
        (EventType.RUN_REQUESTED, "requested", 0),
        (EventType.RUN_STOPPED, "failed", 0),
        (EventType.RUN_RESUMED, "resumed", 2),
        (EventType.RUN_STOPPED, "completed", 0),
    ]
    assert [r.digest for r in records(on_stack, run_id)] == before


def test_a_pause_is_told_and_a_lost_log_stops_nothing(on_stack):
    """A flow is suspended by an exception that Prefect raises in its body."""

    seen = []

    @flow
    def suspended(rounds):
        seen.append(str(runtime.flow_run.id))
        with telling(str(runtime.flow_run.id), rounds, "no-chain") as tell:
            tell(stage("rounds"))
            raise Pause(state=Suspended(message="the operator's"))

    on_stack.mkdir(parents=True)
    (on_stack / "events.db").mkdir()  # nothing can be written there
    with pytest.raises(Pause) as pause:
        suspended(3)
    (on_stack / "events.db").rmdir()
    log = EventLog(f"sqlite:///{on_stack / 'events.db'}")
    assert deliver_leftovers(on_stack / "events.spool", log) == 3
    (run_id,) = seen
    assert pause.value.state.is_paused()
    assert [e.type for e in log.history(run_id)][-1] is EventType.RUN_PAUSED
    assert log.snapshot(run_id).status == "paused"


def test_a_full_disk_fails_the_run_and_not_the_client(on_stack, monkeypatch):
    from tasks.client_round import Site

    def full(_site, _job):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Site, "do", full)
    state, run_id = train(SMALL)
    assert state.is_failed() and "No space left on device" in state.message
    assert records(on_stack, run_id) == []
