"""From a config to a plan: the data set as blobs, its partition, the run's header."""

from __future__ import annotations

from typing import Any

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE

from fedcore.audit.report import AuditReport
from fedcore.chain import Chain
from fedcore.config import RunConfig
from fedcore.data.materialise import get_dataset, put_dataset
from fedcore.plan import RunPlan
from fedcore.refs import Ref
from fedcore.run import begin, begun
from tasks import home


@task(task_run_name="load-data", cache_policy=NO_CACHE, result_serializer="json")
def load_data(config: RunConfig) -> Ref:
    """The config's data set, put into the store."""
    return put_dataset(home.store(), config.data.load(home.data_folder()))


@task(task_run_name="partition", cache_policy=NO_CACHE, result_serializer="json")
def make_plan(config: RunConfig, data: Ref, audit: dict[str, Any], run_id: str) -> None:
    """Divides the data and begins the run: its chain's header says what will run where."""
    store = home.store()
    begin(config, get_dataset(store, data), AuditReport.from_json(audit), store, run_id)


def has_begun(run_id: str) -> bool:
    """Whether the run's data were audited and divided before; then a retry goes on from there."""
    return home.store().holds_name(f"runs/{run_id}/header.json")


def plan_of(run_id: str) -> tuple[RunPlan, Chain]:
    """The plan, with what people decided, and the chain of a run that has begun."""
    return begun(home.store(), run_id)


def data_of_run() -> str:
    """Name or kind of the flow run's data set, as the operator reads it in lists of runs."""
    data = dict(runtime.flow_run.parameters)["data"]
    value = data if isinstance(data, dict) else data.model_dump()
    return str(value.get("name") or value.get("kind"))
