"""Runs whose worker is gone, found when a worker starts: started again by themselves.

A worker that is killed cannot say how its runs ended: Prefect leaves them 'Running' for ever, and
a process that outlived its worker no longer hears a Cancel. Before our worker asks for work it
settles the runs of its pool that are under way: what is left of them is ended, and they are
scheduled again. They go on at the client tasks that were in flight.

The pool is this machine's own; another machine's worker has a pool or queue of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import AwaitingRetry, Cancelled, Crashed

from deployments.automations import GONE
from deployments.stack import processes
from deployments.stack.stack import stack_home

# A run that takes its machine down each time must not do so for ever.
MOST_STARTS = 5
PAGE = 200

SECONDS_TO_END = 5.0


@dataclass(frozen=True)
class Settled:
    """A run that was under way before this worker.

    Attributes:
      id: of the flow run.
      name: of the flow run.
      action: ``goes on`` (another worker has it), ``starts again``, ``left`` (after too many
        starts) or ``cancelled``.
    """

    id: str
    name: str
    action: str


def recover(pool: str) -> list[Settled]:
    """Settle the runs of a work pool that are under way according to the server.

    Args:
      pool: name of the work pool whose runs start on this machine.
    """
    left = processes_of_runs(stack_home())
    settled = []
    with get_client(sync_client=True) as client:
        for run in _under_way(client, pool):
            family = left.get(str(run.id), [])
            if any(_has_worker(process) for process in family):
                settled.append(Settled(str(run.id), run.name, "goes on"))
                continue
            processes.end(family, seconds=SECONDS_TO_END)
            settled.append(Settled(str(run.id), run.name, _start_again(client, run)))
    return settled


def processes_of_runs(home: Path) -> dict[str, list[psutil.Process]]:
    """Flow run id -> its processes on this machine; Prefect names the run in their environment.

    Args:
      home: folder of the stack that started them. A run of the same id in another home is a
        backup's: none of this stack's business.
    """
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        try:
            seen = process.environ()
            run_id = seen.get("PREFECT__FLOW_RUN_ID")
            is_ours = seen.get("FEDLOOM_HOME") == str(home)
            if run_id and is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.setdefault(run_id, []).append(process)
        except psutil.Error:
            continue
    return found


def _has_worker(process: psutil.Process) -> bool:
    """Whether a worker started it and still watches it."""
    try:
        parent = process.parent()
        return parent is not None and {"worker", "start"} <= set(parent.cmdline())
    except psutil.Error:
        return False


def _under_way(client: SyncPrefectClient, pool: str) -> list[FlowRun]:
    types = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    runs: list[FlowRun] = []
    while True:
        page = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types))
            ),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
            sort=FlowRunSort.START_TIME_ASC,
            limit=PAGE,
            offset=len(runs),
        )
        runs += page
        if len(page) < PAGE:
            return runs


def _start_again(client: SyncPrefectClient, run: FlowRun) -> str:
    state: Any = run.state
    if state.type is StateType.CANCELLING:
        client.set_flow_run_state(run.id, Cancelled(message=f"{GONE}."), force=True)
        return "cancelled"
    if run.run_count >= MOST_STARTS:
        message = f"{GONE}, after {run.run_count} starts. Look at its logs, then Retry."
        client.set_flow_run_state(run.id, Crashed(message=message), force=True)
        return "left"
    # At one stroke: a worker that is killed here leaves the run to the next one.
    again = AwaitingRetry(message=f"{GONE}; it goes on where it was.")
    client.set_flow_run_state(run.id, again, force=True)
    return "starts again"
