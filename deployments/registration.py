"""The deployments of ``prefect.yaml``, registered with a stack's Prefect server.

Through Prefect's API and not its command: some seconds instead of half a minute, and what operators
decided in the console stays: schedules that they switched on or made, limits, automations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import yaml

from deployments.stack.stack import Stack, StackError, auth_string
from deployments.steps import PROJECT, config_parameters

if TYPE_CHECKING:
    from pathlib import Path

    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import DeploymentSchedule

    from fedcore.config import RunConfig

FLOW, FINE_TUNING = "train-federated", "finetune-adapters"
CUSTOM = "custom"
CONFIG_STEP = "deployments.steps.config_parameters"


def declared() -> list[dict[str, Any]]:
    """The entries of ``prefect.yaml``, as they are written there."""
    return yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]


def deployment_names(flow: str = "") -> tuple[str, ...]:
    """Those in ``prefect.yaml``, as ``FLOW/NAME``; of one flow as ``NAME``."""
    named = [(flow_of(entry), str(entry["name"])) for entry in declared()]
    if flow:
        return tuple(name for of, name in named if of == flow)
    return tuple(f"{of}/{name}" for of, name in named)


def flow_of(entry: Mapping[str, Any]) -> str:
    """The name of an entry's flow: its function's, with dashes."""
    return str(entry["entrypoint"]).rpartition(".")[2].replace("_", "-")


def deployment_of(config: RunConfig) -> str:
    """The deployment of this name whose form fits the configuration, else the one for any."""
    from fedcore.fine_tuning import is_fine_tuning

    flow = FINE_TUNING if is_fine_tuning(config) else FLOW
    return f"{flow}/{config.name if config.name in deployment_names(flow) else CUSTOM}"


def parameters_for(config: RunConfig) -> dict[str, Any]:
    """The configuration as parameters of :func:`deployment_of` it."""
    from fedcore.fine_tuning import is_fine_tuning

    left_out = {"preprocessing"} if is_fine_tuning(config) else set()
    return config.model_dump(mode="json", exclude=left_out)


def register(stack: Stack) -> None:
    """Register all deployments, the queue of training runs, and the automations.

    Raises:
      StackError: the server refused something, or ``prefect.yaml`` says what this does not know.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    from deployments.automations import register_automations
    from deployments.queues import ensure_limits

    try:
        with _server_of(stack), get_client(sync_client=True) as client:
            ensure_limits(client)
            _register_deployments(client)
            _register_sites(client, stack.home)
            register_automations(client)
    except PrefectHTTPStatusError as error:
        raise StackError(f"Prefect refused a deployment: {error}") from error
    except httpx.HTTPError as error:
        raise StackError(
            f"Prefect at {stack.prefect_api_url} does not answer: {error!r}. "
            "`fedloom stack status` says what runs."
        ) from error
    (stack.home / "deployed").write_text(_sources_digest())


def ensure_registered(stack: Stack) -> bool:
    """Register when what the deployments are made of has changed since. Returns whether it did."""
    stamp = stack.home / "deployed"
    if stamp.exists() and stamp.read_text() == _sources_digest():
        return False
    register(stack)
    return True


def parameters_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry's parameters, its build steps done.

    Raises:
      StackError: a build step other than ours.
    """
    from prefect.utilities.templating import apply_values

    built = {}
    for step in entry.get("build", ()):
        ((name, inputs),) = step.items()
        if name != CONFIG_STEP:
            raise StackError(
                f"deployment {entry['name']}: build step {name!r} is not {CONFIG_STEP!r}. "
                "`prefect deploy --all` knows it; `fedloom deploy` does not."
            )
        built[inputs["id"]] = config_parameters(inputs["file"])
    return apply_values(dict(entry.get("parameters", {})), built)


def schedules_of(
    entry: Mapping[str, Any], existing: Iterable[DeploymentSchedule]
) -> list[DeploymentScheduleCreate]:
    """An entry's schedules, each switched as it is on the server, and those that operators made.

    ``prefect.yaml`` says when, the operator says whether.
    """
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule

    known = {one.slug: one for one in existing if one.slug}
    ours = [
        DeploymentScheduleCreate(
            slug=one["slug"],
            schedule=CronSchedule(cron=one["cron"], timezone=one["timezone"]),
            active=known[one["slug"]].active if one["slug"] in known else one["active"],
        )
        for one in entry.get("schedules", ())
    ]
    slugs = {one.slug for one in ours}
    return ours + [
        DeploymentScheduleCreate(
            slug=one.slug, schedule=one.schedule, active=one.active, parameters=one.parameters
        )
        for one in existing
        if one.slug not in slugs
    ]


@contextmanager
def _server_of(stack: Stack) -> Iterator[None]:
    """Prefect's clients talk to this stack's server, whatever this process's own settings say."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    auth = auth_string(stack.home) if stack.auth else None
    with temporary_settings(
        {PREFECT_API_URL: stack.prefect_api_url, PREFECT_API_AUTH_STRING: auth}
    ):
        yield


def _register_deployments(client: SyncPrefectClient) -> None:
    from prefect.flows import load_flow_from_entrypoint
    from prefect.utilities.callables import parameter_schema

    entries = declared()
    flows: dict[str, Flow[..., Any]] = {}
    for entrypoint in {entry["entrypoint"] for entry in entries}:
        flows[entrypoint] = load_flow_from_entrypoint(entrypoint)
    ids = {name: client.create_flow_from_name(flow.name) for name, flow in flows.items()}
    schemas = {
        name: parameter_schema(flow).model_dump_for_openapi() for name, flow in flows.items()
    }
    schedules = {(one.flow_id, one.name): one.schedules for one in client.read_deployments()}
    for entry in entries:
        where, name = entry["entrypoint"], entry["name"]
        client.create_deployment(
            flow_id=ids[where],
            name=name,
            version=flows[where].version,
            description=entry["description"],
            tags=entry["tags"],
            entrypoint=where,
            work_pool_name=entry["work_pool"]["name"],
            work_queue_name=entry["work_pool"]["work_queue_name"],
            parameters=parameters_of(entry),
            parameter_openapi_schema=schemas[where],
            # `enforce_parameter_schema` is true when nothing is said. Where it is said, the server
            # checks the schema itself, for a second in which nothing else moves, and transactions
            # on SQLite that waited for it are refused. tests/flows/test_flow_forms.py checks it.
            schedules=schedules_of(entry, schedules.get((ids[where], name), ())),
            pull_steps=[],
        )


def _register_sites(client: SyncPrefectClient, home: Path) -> None:
    """The pool of the registered sites, and the deployment by which each is asked to attend."""
    from fedcore.sites.coordinator import Coordinator
    from tasks.sites import ensure_session_deployment

    for site in Coordinator(home / "coordinator").registry.sites():
        ensure_session_deployment(client, site)


def _sources_digest() -> str:
    """Of prefect.yaml, the configs, and the sources that decide flow parameters and their form."""
    digest = hashlib.sha256()
    folders = ("configs", "flows", "fedcore", "deployments")
    files = [PROJECT / "prefect.yaml"]
    for folder in folders:
        files += sorted(
            path for path in (PROJECT / folder).rglob("*") if path.suffix in {".py", ".yaml"}
        )
    for path in files:
        digest.update(f"{path.relative_to(PROJECT)}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()
