"""What this server asks of state changes beyond Prefect's own rules: a paused run stays resumable.

Prefect's Pause dialog proposes 300 seconds; past them Resume fails the run instead of going on
(``HandleResumingPausedFlows`` in Prefect 3.8.8). A hospital's night is longer, and a paused run of
ours holds no process and no memory: the deadline is dropped, and the page says what to do.
"""

from __future__ import annotations

from typing import Any

from prefect.server.models import flow_runs
from prefect.server.orchestration.core_policy import CoreFlowPolicy, MinimalFlowPolicy
from prefect.server.orchestration.dependencies import ORCHESTRATION_DEPENDENCIES
from prefect.server.orchestration.policies import FlowRunOrchestrationPolicy
from prefect.server.orchestration.rules import FlowRunUniversalTransform, OrchestrationContext
from prefect.server.schemas.states import StateType

from deployments.stack.lost_runs import OnlyLostRunsAreMarked

PAUSED = (
    "Paused between two client tasks; no process is left. It waits as long as you like: "
    "Resume goes on with the next client, Cancel ends it."
)


class PausesNeverExpire(FlowRunUniversalTransform):
    """Drops the deadline of a pause that ends the process, and tells what to do."""

    async def before_transition(self, context: OrchestrationContext[Any, Any]) -> None:
        """Changes the proposed state in place."""
        proposed = context.proposed_state
        if proposed is None or proposed.type != StateType.PAUSED:
            return
        if proposed.state_details.pause_reschedule:
            proposed.state_details.pause_timeout = None
            proposed.message = proposed.message or PAUSED


class FlowPolicy(FlowRunOrchestrationPolicy):
    """Prefect's rules with ours before them."""

    @staticmethod
    def priority() -> list[Any]:
        """Rules in the order in which they see a transition."""
        return [PausesNeverExpire, OnlyLostRunsAreMarked, *CoreFlowPolicy.priority()]


class ForcedFlowPolicy(FlowRunOrchestrationPolicy):
    """What is left of the rules for forced states, with ours before it: the buttons of Prefect's
    pages force every state that they set."""

    @staticmethod
    def priority() -> list[Any]:
        """Rules in the order in which they see a transition."""
        return [PausesNeverExpire, *MinimalFlowPolicy.priority()]


def use_policies() -> None:
    """Make them those of the Prefect server in this process."""
    ORCHESTRATION_DEPENDENCIES["flow_policy_provider"] = provide_flow_policy
    # Prefect has a provider for the one policy only.
    flow_runs.MinimalFlowPolicy = ForcedFlowPolicy  # type: ignore[misc]


async def provide_flow_policy() -> type[FlowRunOrchestrationPolicy]:
    """For ``prefect.server.orchestration.dependencies``."""
    return FlowPolicy
