"""Each of the 14 types is told by a real run, and carries what its row in the table says."""

import pytest

from fedcore.config import make_config
from fedcore.engines.in_process import InProcessEngine
from fedcore.event_log import EventLog
from fedcore.event_sink import EventSink
from fedcore.events import FIELDS, EventType, Role
from fedcore.outcomes import Failed
from fedcore.run import run_federated
from fedcore.store import Store

THE_TEN = {
    *("event_id", "ts", "round", "node_id", "role"),
    *("status", "latency_ms", "payload_bytes", "metrics", "run_id"),
}
COORDINATOR, CLIENT = Role.COORDINATOR, Role.CLIENT
# type -> who tells it, the words of its status, and what it carries besides its identity
TABLE = {
    "node_heartbeat": (
        {COORDINATOR},
        {"audit", "partition", "rounds", "evaluation", "registration", "done"},
        set(),
    ),
    "round_started": ({COORDINATOR}, {"started"}, {"round", "metrics"}),
    "model_dispatched": ({CLIENT}, {"sent"}, {"round", "payload_bytes"}),
    "client_train_started": ({CLIENT}, {"started"}, {"round"}),
    "client_train_completed": (
        {CLIENT},
        {"done", "reused", "failed", "refused", "absent"},
        {"round"},
    ),
    "client_update_uploaded": ({CLIENT}, {"received", "reused"}, {"round", "payload_bytes"}),
    "aggregation_started": ({COORDINATOR}, {"started"}, {"round", "metrics"}),
    "aggregation_completed": (
        {COORDINATOR},
        {"done"},
        {"round", "latency_ms", "payload_bytes", "metrics"},
    ),
    "round_completed": ({COORDINATOR}, {"committed"}, {"round", "latency_ms", "metrics"}),
    "node_error": (
        {COORDINATOR, CLIENT},
        {"warning", "failed", "refused", "absent", "missing-3", "not-admitted"},
        {"message"},
    ),
    "run_requested": ({COORDINATOR}, {"requested"}, set()),
    "run_paused": ({COORDINATOR}, {"paused"}, set()),
    "run_resumed": ({COORDINATOR}, {"resumed"}, set()),
    "run_stopped": ({COORDINATOR}, {"completed", "failed", "cancelled", "crashed"}, set()),
}
# Only Prefect suspends a run: tests/flows/test_train_federated_flow.py.
NEEDS_PREFECT = {"run_paused"}
SMALL = {
    "data": {"kind": "digits", "limit": 300},
    "partition": {"kind": "iid", "clients": 3},
    "audit": {"remedy": "accept"},
    "model": {"kind": "mlp", "hidden": [8]},
}


class OneFails:
    """The reference engine, but one client always fails in training."""

    def __init__(self, engine, client):
        self.engine, self.client = engine, client

    def run(self, jobs):
        for job, outcome in self.engine.run(jobs):
            is_training = job.kind.value == "train"
            if job.client == self.client and is_training:
                outcome = Failed(job.client, job.key, "no luck")
            yield job, outcome


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What a run of two rounds, and the same run once more, left in the log."""
    folder = tmp_path_factory.mktemp("run")
    store, log = Store(folder / "store"), EventLog(f"sqlite:///{folder / 'events.db'}")
    engine = OneFails(InProcessEngine(store, folder / "cache"), "client-001")
    config = make_config({**SMALL, "rounds": {"count": 2}})
    for _ in range(2):
        with EventSink(log, "run", folder / "spool", warn=print) as sink:
            run_federated(config, store=store, engine=engine, run_id="run", emit=sink.tell)
    with EventSink(log, "again", folder / "spool", warn=print) as sink:
        run_federated(config, store=store, engine=engine, run_id="again", emit=sink.tell)
    return log.history("run") + log.history("again")


def test_the_table_is_the_schema():
    assert {one.value for one in EventType} == set(TABLE) and len(TABLE) == 14
    assert {*FIELDS} == THE_TEN | {"type", "message"} and len(THE_TEN) == 10


@pytest.mark.parametrize("name", TABLE)
def test_a_real_run_tells_each_type_with_what_belongs_to_it(told, name):
    roles, statuses, carried = TABLE[name]
    mine = [event for event in told if event.type == name]
    assert mine or name in NEEDS_PREFECT
    for event in mine:
        assert event.role in roles and event.status in statuses
        assert (event.node_id == "coordinator") == (event.role is COORDINATOR)
        for field in carried:
            assert getattr(event, field) not in (None, 0, "", {}), f"{name} without {field}"


def test_the_events_of_a_run_are_in_the_order_of_what_happened(told):
    first = [event for event in told if event.run_id == "run" and event.round == 1]
    order = [event.type.value for event in first if event.role is COORDINATOR]
    assert order[:4] == [
        "round_started",
        "aggregation_started",
        "aggregation_completed",
        "round_completed",
    ]
    one = [(event.type.value, event.status) for event in first if event.node_id == "client-000"]
    assert one == [
        ("model_dispatched", "sent"),
        ("client_train_started", "started"),
        ("client_train_completed", "done"),
        ("client_update_uploaded", "received"),
    ]
    failed = [(e.type.value, e.status) for e in first if e.node_id == "client-001"]
    assert failed[2:] == [("client_train_completed", "failed"), ("node_error", "failed")]
    assert [e.event_id for e in told] == sorted(e.event_id for e in told)


def test_a_run_again_is_resumed_and_the_same_work_is_reused(told):
    of_runs = [(e.type.value, e.status, e.round) for e in told if e.type.startswith("run_")]
    assert of_runs == [
        ("run_requested", "requested", 0),
        ("run_stopped", "completed", 0),
        ("run_resumed", "resumed", 2),
        ("run_stopped", "completed", 0),
        ("run_requested", "requested", 0),
        ("run_stopped", "completed", 0),
    ]
    again = [e for e in told if e.run_id == "again" and e.node_id == "client-000"]
    assert {e.status for e in again if e.type == "client_train_completed"} == {"reused"}
    assert {e.status for e in again if e.type == "client_update_uploaded"} == {"reused"}
