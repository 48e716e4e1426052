"""Runs that begin with others, and runs that wait for a person, on the real stack."""

import uuid
from contextlib import suppress

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow

from fedcore.chain import Chain
from fedcore.config import make_config
from fedcore.decisions import Verdict
from fedcore.engines.in_process import InProcessEngine
from fedcore.plan import RunPlan
from fedcore.run import run_federated
from fedcore.store import Store
from tasks.registration import Registered

pytestmark = pytest.mark.stack

SMALL = {
    "data": {"kind": "digits", "limit": 300},
    "partition": {"kind": "iid", "clients": 3},
    "audit": {"remedy": "accept"},
    "model": {"kind": "logistic"},
    "rounds": {"count": 2, "min_clients": 2},
    "registry": {"register_model": False},
    "speed": {"workers": 0},
}


def train(sections, overrides=None, **more):
    """(state, id of the flow run)."""
    from flows.train_federated import train_federated

    parameters = {**sections, "overrides": overrides, **more}
    state = train_federated(**train_federated.validate_parameters(parameters), return_state=True)
    return state, str(state.state_details.flow_run_id)


def chain_of(home, run_id):
    return Chain(Store(home / "store"), run_id)


def artifacts(run_id):
    """key -> data of the run's newest artifacts."""
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[uuid.UUID(run_id)]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=of_run)
    return {one.key: one.data for one in sorted(found, key=lambda one: one.created)}


def test_a_run_goes_on_grows_and_forks(on_stack, tmp_path, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr("flows.train_federated.register", _fails)
        state, first = train(SMALL)
    monkeypatch.setattr("flows.train_federated.register", lambda *_: Registered("", {}, {}))
    assert state.is_failed() and len(list(chain_of(on_stack, first).records())) == 2

    state, other = train({}, start={"kind": "resume", "run": first[:13]})
    assert state.is_completed(), state.message
    assert not (on_stack / "store" / "runs" / other).exists()
    final = state.result()["final_digest"]
    state, _ = train({}, start={"kind": "resume", "run": first})
    assert state.is_failed() and f"run {other} cannot be resumed: it is Completed" in state.message

    state, longer = train({}, start={"kind": "extend", "run": first, "rounds": 3})
    assert state.is_completed(), state.message
    engine = InProcessEngine(Store(tmp_path / "store"), tmp_path / "cache")
    config = make_config(SMALL, {"rounds.count": 3})
    alone = run_federated(config, store=engine.store, engine=engine, run_id="alone")[1]
    assert state.result()["final_digest"] == alone.final_digest != final
    origin = RunPlan.from_header(chain_of(on_stack, longer).header()).origin
    assert (origin.run, origin.round) == (first, 2)

    fork = {"kind": "fork", "run": longer, "at_round": 2}
    state, _ = train({}, {"model.kind": "mlp"}, start=fork)
    assert state.is_failed() and "cannot change in a fork" in state.message
    state, _ = train({"training": {"kind": "loop", "learning_rate": 0.5}}, start=fork)
    assert state.is_failed() and "training was changed, but start.kind='fork'" in state.message
    state, planned = train({}, {"rounds.count": 4}, start=fork, dry_run=True)
    assert state.is_completed() and "Dry run: nothing was trained" in state.message
    assert len(list(chain_of(on_stack, planned).records())) == 2 and "plan" in artifacts(planned)


def _fails(*_):
    raise RuntimeError("MLflow is away.")


class Console:
    """A flow run of a deployment, this process its worker, and its operator."""

    def __init__(self, parameters):
        from flows.train_federated import train_federated

        self.flow = train_federated
        with get_client(sync_client=True) as client:
            flow_id = client.create_flow(train_federated)
            name = f"asks-{uuid.uuid4()}"
            deployment = client.create_deployment(flow_id, name, enforce_parameter_schema=False)
            self.id = client.create_flow_run_from_deployment(deployment, parameters=parameters).id

    def start(self):
        """What a worker does; returns the state that the run is left in."""
        with get_client(sync_client=True) as client:
            flow_run = client.read_flow_run(self.id)
        parameters = self.flow.validate_parameters(flow_run.parameters)
        with suppress(Pause):
            run_flow(self.flow, flow_run, parameters, return_type="state")
        with get_client(sync_client=True) as client:
            return client.read_flow_run(self.id).state

    def resume(self, **answer):
        with get_client(sync_client=True) as client:
            return client.resume_flow_run(self.id, run_input=answer)


def test_a_run_waits_for_a_decision_and_does_what_it_says(on_stack):
    bound = {"metric": "accuracy", "when": "below", "bound": 2.0}
    console = Console({**SMALL, "approvals": {"audit": "always", "quality": [bound]}})
    state = console.start()
    assert state.name == "Suspended" and state.state_details.pause_timeout is None
    assert "The audit has no warnings. Begin training?" in state.message
    assert "fedloom approve" in artifacts(str(console.id))["decision-needed"]

    drop = {"decision": "drop clients", "who": "A. Smith", "why": "mislabelled"}
    refused = console.resume(**drop, clients=["nobody"])
    assert refused.status.value == "REJECT" and "'nobody' is not one of" in refused.details.reason
    assert console.resume(**{**drop, "who": ""}).status.value == "REJECT"
    assert console.resume(**drop, clients=["client-000", "client-001"]).status.value == "ACCEPT"
    state = console.start()
    assert state.name == "Suspended"
    assert "Not taken: dropping ['client-000', 'client-001'] leaves 1" in state.message

    console.resume(**drop, clients=["client-000"])
    state = console.start()
    assert "After round 1 of 2 accuracy on validation data" in state.message
    chain = chain_of(on_stack, str(console.id))
    assert [one.cohort for one in chain.records()] == [("client-001", "client-002")]
    assert "| drop clients client-000 | A. Smith |" in artifacts(str(console.id))["decisions"]

    console.resume(decision="stop", who="A. Smith", why="it does not learn")
    state = console.start()
    assert state.is_cancelled() and "Stopped by A. Smith" in state.message
    assert [one.verdict for one in chain.decisions()] == [Verdict.DROP, Verdict.STOP]
    assert len(list(chain.records())) == 1


def test_without_a_deployment_nobody_can_be_asked(on_stack):
    state, _ = train({**SMALL, "approvals": {"audit": "always"}})
    assert state.is_failed() and "A flow run without a deployment cannot wait" in state.message
