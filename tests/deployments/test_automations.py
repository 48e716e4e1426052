"""What a stack's automations are and what becomes of operators' decisions, as values."""

import asyncio
import uuid
from types import SimpleNamespace

import pytest
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import CronSchedule
from prefect.server.events.schemas.automations import AutomationCore
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.server.schemas.states import State, StateType

from deployments.automations import LOST, SILENCE, automations
from deployments.registration import declared, parameters_of, schedules_of
from deployments.stack import lost_runs
from deployments.stack.stack import StackError
from fedcore.absences import STATUS

RUN = uuid.uuid4()
# As the server has them, which knows more rules than the client.
SHIPPED = {
    one.name.removeprefix("Fedloom: "): AutomationCore.model_validate(one.model_dump(mode="json"))
    for one in automations(uuid.uuid4())
}
REFUSED = "Flow run encountered an exception: DataAuditFailed: 8 images are in train and test"
(NIGHTLY,) = [one for one in declared() if one.get("schedules")]


def event(name, resource, related=()):
    tags = [
        {"prefect.resource.id": f"prefect.tag.{one}", "prefect.resource.role": "tag"}
        for one in related
    ]
    return ReceivedEvent(
        occurred="2026-01-01T00:00:00Z",
        event=name,
        resource={"prefect.resource.id": f"prefect.flow-run.{RUN}", **resource},
        related=tags,
        payload={},
        id=uuid.uuid4(),
    )


def firing(one):
    """The names of the automations that an event concerns."""
    return {name for name, shipped in SHIPPED.items() if shipped.trigger.covers(one)}


def ended(state, message="", tags=("fedloom",)):
    return event(f"prefect.flow-run.{state}", {"prefect.state-message": message}, tags)


def test_what_ends_badly_is_told_once():
    assert firing(ended("Failed", REFUSED)) - {"mark runs whose process is gone"} == {
        "data audit failed"
    }
    other = "Flow run encountered an exception: TooFewClients: 1 of 5"
    assert firing(ended("Failed", other)) - {"mark runs whose process is gone"} == {"run failed"}
    assert "run crashed" in firing(ended("Crashed", "Process exited with code -9"))
    assert firing(ended("Completed")) <= {"mark runs whose process is gone"}


def test_runs_of_others_are_not_ours():
    assert firing(ended("Failed", REFUSED, tags=())) <= {"mark runs whose process is gone"}


def test_a_client_is_missed_after_three_rounds_only():
    def error(status):
        node = {"prefect.resource.id": "fedloom.node.a", "fedloom.status": status}
        return event("fedloom.node_error", node | {"fedloom.run_id": str(RUN)})

    assert firing(error(STATUS)) == {"client missing 3 rounds"}
    assert firing(error("failed")) == set()


def test_silence_is_measured_from_a_heartbeat_and_ends_with_every_state_at_rest():
    trigger = SHIPPED["mark runs whose process is gone"].trigger
    assert trigger.starts_after("prefect.flow-run.heartbeat")
    for state in ("heartbeat", "Completed", "Crashed", "Suspended", "Paused", "AwaitingRetry"):
        assert trigger.expects(f"prefect.flow-run.{state}")
    for state in ("Running", "Cancelling"):
        assert not trigger.expects(f"prefect.flow-run.{state}")
    assert trigger.within == SILENCE
    (action,) = SHIPPED["mark runs whose process is gone"].actions
    assert (action.state, action.message, action.force) == (StateType.CRASHED, LOST, False)


def refusal(monkeypatch, before, message, running=()):
    """Why a state change is refused; None when it passes."""
    said = []

    async def abort(self, reason):
        said.append(reason)

    monkeypatch.setattr(lost_runs.OnlyLostRunsAreMarked, "abort_transition", abort)
    family = {str(RUN): [SimpleNamespace(pid=7)]} if running else {}
    monkeypatch.setattr(lost_runs, "processes_of_runs", lambda home: family)
    context = SimpleNamespace(run=SimpleNamespace(id=RUN))
    rule = lost_runs.OnlyLostRunsAreMarked(context, before, StateType.CRASHED)
    proposed = State(type=StateType.CRASHED, message=message)
    asyncio.run(rule.before_transition(before and State(type=before), proposed, context))
    return said[0] if said else None


@pytest.mark.parametrize("before", [StateType.RUNNING, StateType.CANCELLING])
def test_a_run_without_its_process_is_marked(monkeypatch, before):
    assert refusal(monkeypatch, before, LOST) is None


@pytest.mark.parametrize("before", [StateType.PAUSED, StateType.COMPLETED, StateType.SCHEDULED])
def test_a_run_that_needs_no_process_is_not(monkeypatch, before):
    assert "Nothing is lost: the run is" in refusal(monkeypatch, before, LOST)


def test_a_run_with_a_process_is_not(monkeypatch):
    said = refusal(monkeypatch, StateType.RUNNING, LOST, running=True)
    assert said == "Nothing is lost: process 7 works for it."


def test_other_crashes_pass(monkeypatch):
    assert refusal(monkeypatch, StateType.PAUSED, "Process exited with code -9") is None


def schedule(**more):
    values = {"schedule": CronSchedule(cron="0 5 * * *"), "active": True, **more}
    return DeploymentSchedule(**values)


def test_a_new_schedule_is_as_shipped():
    (one,) = schedules_of(NIGHTLY, [])
    assert (one.slug, one.active, one.schedule.cron) == ("nightly", False, "0 2 * * *")


def test_an_operators_switch_stays_and_prefect_yaml_says_when():
    (one,) = schedules_of(NIGHTLY, [schedule(slug="nightly")])
    assert (one.active, one.schedule.cron) == (True, "0 2 * * *")


def test_an_operators_own_schedules_stay():
    mine = [schedule(slug="mine"), schedule(slug=None, active=False)]
    kept = schedules_of(NIGHTLY, mine)[1:]
    assert [(one.slug, one.active, one.schedule.cron) for one in kept] == [
        ("mine", True, "0 5 * * *"),
        (None, False, "0 5 * * *"),
    ]


def test_parameters_are_those_of_the_configuration():
    assert parameters_of(NIGHTLY)["data"]["name"] == "pneumoniamnist"


def test_another_build_step_is_refused():
    entry = {"name": "x", "build": [{"prefect.deployments.steps.git_clone": {"id": "a"}}]}
    with pytest.raises(StackError, match=r"x: build step 'prefect.*git_clone' is not"):
        parameters_of(entry)
