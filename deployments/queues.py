"""The queue of training runs: one at a time, so that two never share a site by accident; and the
pool, which gives an audit a place beside it.

In a simulation this machine is every site, so the limit is the machine's: a second run waits in the
queue ('Late') and starts by itself when the first has ended, in the order in which they were asked
for. Audits read only and have the pool's other queue.

It is a limit of the queue and not Prefect's concurrency limit of a deployment, because that one
is held by a lease: a run that cannot renew it, since the server was away or had lost it
in a restart, is ended (``prefect/flow_engine.py``, ``maintain_concurrency_lease`` in 3.8.8). A
queue counts the runs that are Pending or Running: a crashed, paused or cancelled run frees its
place, and nothing can be lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deployments.stack.stack import POOL

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

TRAINING = "training"
AT_ONCE = 1
RUNS_OF_POOL = 2
# Also the mark by which the next deploy knows that the limit was set once: it is the operator's.
DESCRIPTION = (
    "Training runs, one at a time on this machine: two runs never share a site. Who wants more at "
    "once raises the concurrency limit here; `fedloom deploy` leaves it as it is."
)


def ensure_limits(client: SyncPrefectClient, pool: str = POOL) -> None:
    """The pool's queue and both limits; where the queue has its description they stay."""
    from prefect.client.schemas.actions import WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound

    try:
        queue = client.read_work_queue_by_name(TRAINING, work_pool_name=pool)
    except ObjectNotFound:
        queue = client.create_work_queue(TRAINING, work_pool_name=pool)
    if not queue.description:  # made here, or by `prefect deploy --all`
        client.update_work_pool(pool, WorkPoolUpdate(concurrency_limit=RUNS_OF_POOL))
        client.update_work_queue(queue.id, description=DESCRIPTION, concurrency_limit=AT_ONCE)
