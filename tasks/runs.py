"""Which run a person means: by id, by the beginning of the id, or by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from fedcore.chain import RUN_ID
from fedcore.retention import run_ids
from fedcore.store import Store

PAGE = 200  # Prefect gives no more at once
BEGINNING = re.compile(r"[0-9a-f-]{4,35}")
SHOWN = 10


class RunNotFound(LookupError):
    """No run, or more than one, goes by what was given; the message lists what does."""


@dataclass(frozen=True)
class Found:
    """A run.

    Attributes:
      id: of its chain: its own flow run's id, or ``local-...`` for one that ran in process.
      flow_run: as Prefect knows it; None for a run that it does not.
    """

    id: str
    flow_run: FlowRun | None

    def __str__(self) -> str:
        if self.flow_run is None:
            return self.id
        state = self.flow_run.state.name if self.flow_run.state else "no state"
        return f"{self.flow_run.id}  {self.flow_run.name}  {state}"


def find_run(text: str, store: Store, *, ask_prefect: bool = True) -> Found:
    """The run that goes by an id, a unique beginning of it, or a unique name (or its beginning).

    A flow run that resumed another run's chain stands for that run.

    Args:
      ask_prefect: without it only runs that have begun are found, by id.

    Raises:
      RunNotFound: none does, or several do.
    """
    wanted = text.strip()
    found = _candidates(wanted, store, ask_prefect) if wanted else []
    exact = [one for one in found if wanted in (one.id, _name(one), _flow_run_id(one))]
    found = exact or found
    if not found:
        raise RunNotFound(
            f"run={text!r} is neither an id (or the beginning of one) nor a name of a run here; "
            "they are in Prefect's console under Runs."
        )
    if len({one.id for one in found}) > 1:
        shown = [f"  {one}" for one in found[:SHOWN]]
        more = [f"  and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        raise RunNotFound(
            "\n".join([f"run={text!r} may be any of these; give more of the id:", *shown, *more])
        )
    return found[0]


def chain_id(flow_run_id: str, parameters: Mapping[str, Any]) -> str:
    """The run whose chain a flow run writes: its own, or the one that it resumed."""
    start = parameters.get("start")
    start = start if isinstance(start, Mapping) else getattr(start, "__dict__", {})
    is_resumed = start.get("kind") == "resume" and RUN_ID.fullmatch(str(start.get("run")))
    return str(start["run"]) if is_resumed else flow_run_id


def _candidates(text: str, store: Store, ask_prefect: bool) -> list[Found]:
    begun = [one for one in run_ids(store) if one.startswith(text)]
    if not ask_prefect:
        return [Found(one, None) for one in begun]
    found: dict[str, Found] = {}
    with get_client(sync_client=True) as client:
        for run in (*_by_id(client, text), *_by_name(client, text)):
            chain = chain_id(str(run.id), run.parameters)
            found.setdefault(chain, Found(chain, run))
        for chain in begun:
            found.setdefault(chain, Found(chain, next(_by_id(client, chain), None)))
    return list(found.values())


def _by_id(client: SyncPrefectClient, text: str) -> Iterator[FlowRun]:
    """The flow run of this id, or the recent ones whose id begins with it."""
    try:
        yield client.read_flow_run(UUID(text))
        return
    except ObjectNotFound:
        return
    except ValueError:
        pass
    if BEGINNING.fullmatch(text):
        recent = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=PAGE)
        yield from (run for run in recent if str(run.id).startswith(text))


def _by_name(client: SyncPrefectClient, text: str) -> Iterator[FlowRun]:
    """Flow runs whose name begins with this, newest first."""
    found = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(name=FlowRunFilterName(like_=text)),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=PAGE,
    )
    yield from (run for run in found if run.name.startswith(text))


def _name(found: Found) -> str | None:
    return found.flow_run.name if found.flow_run else None


def _flow_run_id(found: Found) -> str | None:
    return str(found.flow_run.id) if found.flow_run else None
