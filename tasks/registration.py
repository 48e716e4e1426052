"""A finished run as an MLflow run and a model version for review."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.utilities.urls import url_for

from fedcore.attacks.found import found_by
from fedcore.audit.report import AuditReport
from fedcore.chain import RoundRecord
from fedcore.models.build import build_model
from fedcore.models.state import as_array, frozen_state
from fedcore.privacy.spending import spending
from fedcore.refs import Ref
from fedcore.report.curves import plot_curves
from fedcore.run import RunResult
from tasks import home
from tasks.artifacts import model_facts, refusal_facts
from tasks.data import plan_of
from tasks.registry.artifacts import run_report
from tasks.registry.finished_run import NOT_PRIVATE, AuditFiles, CentralScores, FinishedRun
from tasks.registry.log_run import log_run
from tasks.registry.model_version import register_version

RETRIES, SECONDS_BETWEEN = 3, 10


@dataclass(frozen=True)
class Registered:
    """Where a run can be reviewed.

    Attributes:
      report: markdown with pictures, readable without a network.
      links: text -> URL.
      version: JSON: ``mlflow_run`` and, when a version was made, ``model`` and ``version``, and
        ``privacy_audit`` when it was attacked.
    """

    report: str
    links: dict[str, str]
    version: dict[str, str]


def tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI``, by default a database file in ``FEDLOOM_HOME``."""
    folder = home.home() / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"


@task(
    task_run_name="register",
    cache_policy=NO_CACHE,
    result_serializer="json",
    retries=RETRIES,
    retry_delay_seconds=SECONDS_BETWEEN,
)
def register(run_id: str, result: dict[str, Any]) -> Registered:
    """Logs the run and registers its model; an MLflow that is down is tried again, nothing lost."""
    uri = tracking_uri()
    run = finished_run(run_id, result)
    mlflow_run = log_run(uri, run)
    version = {"mlflow_run": mlflow_run}
    links = {"MLflow run": _page(uri, f"runs/{mlflow_run}")}
    if run.config["registry"]["register_model"]:
        made = register_version(uri, run, mlflow_run)
        version |= {"model": made.name, "version": made.version}
        if run.attacked:
            version["privacy_audit"] = run.attacked.verdict.word
        page = f"models/{made.name}/versions/{made.version}"
        links["Model version"] = _page(uri, page)
    report = run_report(run, plot_curves(run.records, title=run.name))
    return Registered(report, {text: link for text, link in links.items() if link}, version)


def finished_run(run_id: str, result: dict[str, Any]) -> FinishedRun:
    """Everything MLflow is told about a run, read from its chain and the store."""
    plan, chain = plan_of(run_id)
    store, config = chain.store, plan.config
    chosen = RoundRecord.from_json(result["chosen"])
    model = build_model(config.model.served(), plan.task, plan.input_shape, config.seed)
    audit = AuditReport.from_json(chain.annotation("audit"))
    partition = chain.annotation("partition")
    kept = store.get_arrays(Ref(**result["scores"])) if result["scores"] else None
    records = [record.to_json() for record in chain.records()]
    spent, attacked = spending(config, records), found_by(chain.annotation)
    return FinishedRun(
        run_id=run_id,
        header=chain.header(),
        records=records,
        round=chosen.round,
        params=store.get_arrays(chosen.model),
        evaluation=result["evaluation"],
        frozen={name: as_array(tensor) for name, tensor in frozen_state(model).items()},
        audit=AuditFiles(audit.to_json(), audit.to_html(), audit.to_markdown()),
        manifest=store.get(Ref(**partition["manifest"])),
        partition_picture=store.get(Ref(**partition["picture"])),
        test=CentralScores(kept["scores"], kept["targets"]) if kept else None,
        epsilon=NOT_PRIVATE if spent is None else str(spent),
        facts={**model_facts(plan), **refusal_facts(config, run_id)},
        links=_flow_run_link(),
        decisions=[decision.to_json() for decision in chain.decisions()],
        attacked=attacked,
        reconstructions=store.get(attacked.picture) if attacked and attacked.picture else b"",
    )


def result_json(result: RunResult) -> dict[str, Any]:
    """What ``register`` needs of a result, as JSON."""
    return {
        "chosen": result.chosen.to_json(),
        "evaluation": result.evaluation,
        "scores": vars(result.scores) if result.scores else None,
    }


def _page(uri: str, page: str) -> str:
    return f"{uri.rstrip('/')}/#/{page}" if uri.startswith("http") else ""


def _flow_run_link() -> dict[str, str]:
    flow_run = runtime.flow_run.id
    link = url_for("flow-run", obj_id=flow_run) if flow_run else None
    return {"Flow run": link} if link else {}
