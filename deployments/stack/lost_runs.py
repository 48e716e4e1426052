"""Only a run that should be running and has no process is marked as lost.

Prefect's automation for silent runs knows heartbeats alone. A run that is paused from the console
beats until its process comes to the end of a client task, after the state that should have calmed
the automation; and whatever keeps events from the server for minutes (a busy disk, a restart, a
laptop that slept) makes every run silent at once. So the server looks before it believes.
"""

from __future__ import annotations

import asyncio
from typing import Any

import prefect.server.models  # noqa: F401 - before the rules, which import it half-way
from prefect.server.orchestration.rules import (
    ALL_ORCHESTRATION_STATES,
    FlowRunOrchestrationRule,
    OrchestrationContext,
)
from prefect.server.schemas.states import State, StateType

from deployments.automations import LOST
from deployments.stack.recovery import processes_of_runs
from deployments.stack.stack import stack_home

NEEDS_A_PROCESS = {StateType.RUNNING, StateType.CANCELLING}


class OnlyLostRunsAreMarked(FlowRunOrchestrationRule):
    """Refuses the automation's 'Crashed' where nothing is lost; other crashes pass.

    Server, worker and runs of a stack are on one machine.
    """

    FROM_STATES = ALL_ORCHESTRATION_STATES
    TO_STATES = {StateType.CRASHED}  # noqa: RUF012 - the rule's own attribute

    async def before_transition(
        self,
        initial_state: State[Any] | None,
        proposed_state: State[Any] | None,
        context: OrchestrationContext[Any, Any],
    ) -> None:
        """Ends the transition, with the reason in the automation's event."""
        if proposed_state is None or proposed_state.message != LOST:
            return
        if initial_state is None or initial_state.type not in NEEDS_A_PROCESS:
            name = initial_state.name if initial_state else "new"
            await self.abort_transition(f"Nothing is lost: the run is {name}.")
            return
        working = await asyncio.to_thread(processes_of_runs, stack_home())
        family = working.get(str(context.run.id))
        if family:
            await self.abort_transition(f"Nothing is lost: process {family[0].pid} works for it.")
