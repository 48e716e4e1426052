"""The automations that a stack is shipped with, as values.

An operator may switch one off, or have it send mail or Slack instead: what exists by its name is
left alone by every later deploy.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from fedcore.absences import PATIENCE, STATUS

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

TAG = "fedloom"
# Six heartbeats of 30 s, and Prefect's own minute for late events comes on top of it.
SILENCE = timedelta(seconds=180)
# Prefect may handle an event twice; within this time the second does not count.
ONCE = timedelta(seconds=10)
# Also the mark by which the server's policy knows what proposes this state.
LOST = (
    f"No sign of life for {SILENCE.seconds} seconds, and its process is gone. Finished client "
    "tasks are kept: press Retry, and the run goes on where it was."
)
# Begins what a worker says of the runs that it found without one.
GONE = "Its worker had ended without it"
RUN = {"prefect.resource.id": "prefect.flow-run.*"}
OURS = {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}
AUDIT = "*DataAuditFailed: *"
WHERE = "{{ flow_run|ui_url }}"


def automations(alerts: UUID) -> tuple[AutomationCore, ...]:
    """All of them.

    Args:
      alerts: id of the block document that alerts are sent to.
    """
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState

    why = "{{ flow_run.state.message }}"
    return (
        _alert(
            alerts,
            "Fedloom: data audit failed",
            "A data audit refused a run; the alert has the findings.",
            {"prefect.flow-run.Failed"},
            {**RUN, "prefect.state-message": AUDIT},
            subject="Data audit failed: {{ flow_run.name }}",
            body=f"{why}\n\nNothing was trained. {WHERE}",
        ),
        _alert(
            alerts,
            "Fedloom: run failed",
            "A run failed for another reason than its data audit.",
            {"prefect.flow-run.Failed"},
            {**RUN, "prefect.state-message": f"!{AUDIT}"},
            subject="Run failed: {{ flow_run.name }}",
            body=f"{why}\n\nRetry goes on where it was, once the reason is gone. {WHERE}",
        ),
        _alert(
            alerts,
            "Fedloom: run crashed",
            "A run's process ended without a word.",
            {"prefect.flow-run.Crashed"},
            RUN,
            subject="Run crashed: {{ flow_run.name }}",
            body=f"{why}\n\nRetry goes on where it was. {WHERE}",
        ),
        _alert(
            alerts,
            "Fedloom: run started again",
            "A run's worker ended without it (a kill, a power cut); the next one took it up.",
            {"prefect.flow-run.AwaitingRetry"},
            {**RUN, "prefect.state-message": f"{GONE}*"},
            subject="Run started again: {{ flow_run.name }}",
            body=f"{why}\n\nThere is nothing to do. {WHERE}",
        ),
        _alert(
            alerts,
            f"Fedloom: client missing {PATIENCE} rounds",
            f"A client missed {PATIENCE} rounds in a row of one run.",
            {"fedloom.node_error"},
            {"prefect.resource.id": "fedloom.node.*", "fedloom.status": STATUS},
            related={},
            subject="Client missing: {{ event.payload.node_id }}",
            body="{{ event.payload.node_id }}, round {{ event.payload.round }}: "
            f"{{{{ event.payload.message }}}}\n\nThe run goes on without it. {WHERE}",
        ),
        _automation(
            "Fedloom: mark runs whose process is gone",
            f"A run that was silent for {SILENCE.seconds} seconds becomes Crashed, if it should be "
            "running and has no process on this machine.",
            # Whoever is paused, ended or waits to start needs no process.
            expect={f"prefect.flow-run.{name}" for name in ("heartbeat", *AT_REST)},
            after={"prefect.flow-run.heartbeat"},
            match=RUN,
            posture="Proactive",
            within=SILENCE,
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message=LOST)],
        ),
    )


# Names of the states in which Prefect 3.8.8 expects no process of a run.
AT_REST = (
    *("Completed", "Failed", "Cancelled", "Crashed", "TimedOut"),
    *("Paused", "Suspended"),
    *("Scheduled", "Late", "AwaitingRetry", "AwaitingConcurrencySlot", "Resuming"),
)


def register_automations(client: SyncPrefectClient) -> list[str]:
    """Make those that are not there yet; returns their names."""
    block = _alert_block()
    existing = {one.name for one in client.read_automations()}
    new = [one for one in automations(block) if one.name not in existing]
    for one in new:
        client.create_automation(one)
    return [one.name for one in new]


def _alert_block() -> UUID:
    """Id of the block document of alerts, made when it is not there."""
    from deployments.alert_block import NAME, FedloomAlerts

    return FedloomAlerts().save(NAME, overwrite=True)


def _alert(
    block: UUID,
    name: str,
    description: str,
    expect: set[str],
    match: dict[str, str],
    *,
    subject: str,
    body: str,
    related: dict[str, str] = OURS,
) -> AutomationCore:
    from prefect.events.actions import SendNotification

    send = SendNotification(block_document_id=block, subject=subject, body=body)
    return _automation(
        name,
        description,
        expect=expect,
        match=match,
        match_related=related,
        within=ONCE,
        actions=[send],
    )


def _automation(
    name: str, description: str, *, actions: list[Any], **trigger: Any
) -> AutomationCore:
    """Each run and each node is looked at by itself."""
    from prefect.events.schemas.automations import AutomationCore, EventTrigger

    run = {"fedloom.run_id"} if "fedloom.node_error" in trigger["expect"] else set()
    return AutomationCore(
        name=name,
        description=description,
        tags=[TAG],
        trigger=EventTrigger(for_each={"prefect.resource.id", *run}, **trigger),
        actions=actions,
    )
