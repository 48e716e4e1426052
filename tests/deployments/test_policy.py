import asyncio

import pytest
from prefect.server.models import flow_runs
from prefect.server.orchestration import dependencies
from prefect.server.orchestration.rules import FlowOrchestrationContext
from prefect.server.schemas.states import State, StateDetails, StateType
from prefect.types._datetime import now

from deployments.stack.policy import PAUSED, PausesNeverExpire, use_policies


@pytest.fixture
def policies(monkeypatch):
    """Ours, in this process until the test ends: of asked and of forced states."""
    monkeypatch.setattr(flow_runs, "MinimalFlowPolicy", flow_runs.MinimalFlowPolicy)
    known = dependencies.ORCHESTRATION_DEPENDENCIES
    monkeypatch.setitem(known, "flow_policy_provider", known["flow_policy_provider"])
    use_policies()
    return asyncio.run(known["flow_policy_provider"]()), flow_runs.MinimalFlowPolicy


def test_a_pause_sees_our_rule_whether_forced_or_not(policies):
    for policy in policies:
        rules = policy.compile_transition_rules(StateType.RUNNING, StateType.PAUSED)
        assert rules[0] is PausesNeverExpire


def test_a_pause_that_ends_the_process_loses_its_deadline_and_says_what_to_do():
    details = StateDetails(pause_timeout=now("UTC"), pause_reschedule=True)
    pause = State(type=StateType.PAUSED, name="Suspended", state_details=details)
    context = FlowOrchestrationContext.model_construct(proposed_state=pause)
    rule = PausesNeverExpire(context, StateType.RUNNING, StateType.PAUSED)
    asyncio.run(rule.before_transition(context))
    assert pause.state_details.pause_timeout is None
    assert pause.message == PAUSED
