"""What a site may say to Prefect's API: each message is read into one of these and written anew.

A field that is not here does not pass: ids of other runs, results (which somebody might unpickle),
leases of concurrency limits, tags, cache keys. Fields as Prefect 3.8.8's client sends them
(``prefect/server/schemas/actions.py``, ``prefect/utilities/engine``).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MOST_TEXT = 2000


class Said(BaseModel):
    """A message of a site; what is not named here is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    def words(self) -> dict[str, Any]:
        """The message written anew: what was said, of what may be said."""
        return self.model_dump(mode="json", exclude_unset=True)


def _cut(value: Any) -> Any:
    return value[:MOST_TEXT] if isinstance(value, str) else value


# A state's message may be a whole traceback; refused, the run would stay 'Running' for ever.
Text = Annotated[str, BeforeValidator(_cut)]
Name = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
StateType = Literal[
    "SCHEDULED",
    "PENDING",
    "RUNNING",
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "CRASHED",
    "PAUSED",
    "CANCELLING",
]


class Heartbeat(Said):
    """A worker lives; its name is the site's, whatever it says."""

    heartbeat_interval_seconds: Annotated[int, Field(ge=1, le=86_400)] | None = None


class Poll(Said):
    """A worker asks for runs of its queue."""

    work_queue_names: Annotated[list[Name], Field(max_length=1)] = []
    scheduled_before: datetime | None = None
    limit: Annotated[int, Field(ge=1, le=200)] | None = None


class StateDetails(Said):
    """What a state says of itself, without any id."""

    scheduled_time: datetime | None = None
    pause_timeout: datetime | None = None
    pause_reschedule: bool = False
    pause_key: Name | None = None
    untrackable_result: bool = False
    retriable: bool | None = None
    transition_id: UUID | None = None


class State(Said):
    """A state, without any result."""

    type: StateType
    name: Name | None = None
    message: Text | None = None
    state_details: StateDetails = StateDetails()


class SetState(Said):
    """A run's next state."""

    state: State
    force: bool = False


class Policy(Said):
    """How often a run is tried again."""

    max_retries: Count = 0
    retry_delay_seconds: Seconds = 0.0
    retries: Count | None = None
    retry_delay: Count | None = None
    resuming: bool | None = None
    retry_type: Literal["in_process", "reschedule"] | None = None


class RunUpdate(Said):
    """What a flow run tells of itself as it starts."""

    name: Name | None = None
    flow_version: Name | None = None
    empirical_policy: Policy = Policy()


class AnyId(Said):
    """Ids that are asked for."""

    any_: Annotated[list[UUID], Field(min_length=1, max_length=50)]


class AnyType(Said):
    """Types of states that are asked for."""

    any_: Annotated[list[StateType], Field(max_length=9)]


class AnyName(Said):
    """Names of states that are asked for."""

    any_: Annotated[list[Name], Field(max_length=20)]


class StateFilter(Said):
    """States that are asked for."""

    type: AnyType | None = None
    name: AnyName | None = None


class RunFilter(Said):
    """Flow runs that are asked for, by their ids."""

    id: AnyId
    state: StateFilter | None = None


class RunsAsked(Said):
    """Which of these flow runs are in these states? So runs look whether they were suspended."""

    flow_runs: RunFilter
