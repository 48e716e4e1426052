"""A flow run that begins with another run's rounds, or goes on with that run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from fedcore.chain import Chain
from fedcore.config import RunConfig, make_config
from fedcore.fork import changed, extend, fork, more_rounds
from fedcore.plan import RunPlan
from fedcore.start import Extend, Fork, New, Resume, StartSettings
from tasks import home
from tasks.data import has_begun, plan_of
from tasks.runs import Found, find_run

OTHERS = "flow-runs"
STOPPED = {"FAILED", "CRASHED", "CANCELLED"}


class StartRefused(ValueError):
    """A run cannot begin like this; the message says why and the way out."""


def config_at_start(
    start: StartSettings,
    parameters: Mapping[str, Any],
    overrides: Mapping[str, Any] | None,
    flow_run_id: str,
) -> RunConfig:
    """The configuration that a flow run works with.

    A new run's is in its parameters. Resume, extend and fork take the other run's, with ``speed``
    of the parameters and, but for resume, ``overrides``.

    Raises:
      ConfigError: it is not a valid one.
      RunNotFound: the other run.
      StartRefused, ForkRefused: changes that would not be made.
    """
    given = make_config(parameters, overrides, source="this run's parameters")
    if isinstance(start, New):
        return given
    if has_begun(flow_run_id):  # tried before: the other run is not needed any more
        return plan_of(flow_run_id)[0].config.model_copy(update={"speed": given.speed})
    found = find_run(start.run, home.store())
    before = RunPlan.from_header(header_of(found)).config
    _refuse_unused(start, make_config(parameters), before)
    changes = dict(overrides or {})
    fixed = {key: value for key, value in changes.items() if not key.startswith("speed.")}
    if isinstance(start, Resume) and fixed:
        raise StartRefused(
            f"overrides={fixed} cannot change a run that goes on: it has its own configuration. "
            f"Fork it instead: start.kind=fork, run={found.id}."
        )
    if isinstance(start, Extend):
        changes |= more_rounds(before, found.id, start.rounds)
    at_round = start.at_round if isinstance(start, Fork) else 0
    return changed(before, changes, at_round).model_copy(update={"speed": given.speed})


def header_of(found: Found) -> dict[str, Any]:
    """The header of a run's chain.

    Raises:
      StartRefused: it stopped before it had one.
    """
    try:
        return Chain(home.store(), found.id).header()
    except LookupError as error:
        raise StartRefused(
            f"run {found.id} has nothing to begin with: it stopped before its first round was "
            "planned. Retry it, or start a new run."
        ) from error


def chain_at_start(start: StartSettings, flow_run_id: str) -> str:
    """The run whose chain this flow run writes: its own, or the one that it resumes.

    Raises:
      RunNotFound: the run to resume.
      StartRefused: that run is done, or still at work, or waits for somebody.
    """
    if not isinstance(start, Resume):
        return flow_run_id
    found = find_run(start.run, home.store())
    header_of(found)
    chain = Chain(home.store(), found.id)
    others = set(chain.annotation(OTHERS) or ()) - {flow_run_id}
    for one in sorted({found.id, *others} - {flow_run_id}):
        _require_stopped(one)
    chain.annotate(OTHERS, sorted({*others, flow_run_id}))
    return found.id


@task(task_run_name="fork", cache_policy=NO_CACHE, result_serializer="json")
def begin_from(start: Any, overrides: dict[str, Any] | None, run_id: str) -> None:
    """Begins the run with another one's finished rounds."""
    store, changes = home.store(), overrides or {}
    parent = find_run(start.run, store).id
    if start.kind == "extend":
        extend(store, parent, start.rounds, run_id, changes)
    else:
        fork(store, parent, start.at_round, changes, run_id)


def _require_stopped(flow_run_id: str) -> None:
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(flow_run_id)).state
    except (ObjectNotFound, ValueError):  # of another server, or in process
        return
    if state is None or state.type.value in STOPPED:
        return
    way_out = {
        "COMPLETED": "Extend or fork it.",
        "PAUSED": "Press Resume on its page, or: fedloom run --resume.",
    }.get(state.type.value, "Wait for it, or cancel it first.")
    raise StartRefused(f"run {flow_run_id} cannot be resumed: it is {state.name}. {way_out}")


def _refuse_unused(start: StartSettings, given: RunConfig, before: RunConfig) -> None:
    """A changed section would have no effect; that is said instead of passed over."""
    usual = make_config(_usual_parameters())
    for section in RunConfig.model_fields:
        value = getattr(given, section)
        if section != "speed" and value not in (getattr(usual, section), getattr(before, section)):
            raise StartRefused(
                f"{section} was changed, but start.kind={start.kind!r} takes the configuration of "
                f"run {start.run!r}. Leave it as it was, and put changes into overrides, for "
                'example {"training.learning_rate": 0.01}.'
            )


def _usual_parameters() -> dict[str, Any]:
    """What the form had in it before anybody changed it."""
    if not (deployment := runtime.deployment.id):
        return {}
    with get_client(sync_client=True) as client:
        parameters = client.read_deployment(UUID(str(deployment))).parameters
    return {key: value for key, value in parameters.items() if key in RunConfig.model_fields}
