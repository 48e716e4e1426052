"""A finished run as an MLflow run: parameters, metrics, artifacts. Twice is the same as once."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fedcore.digests import canonical_json
from tasks.registry import tags
from tasks.registry.artifacts import write_artifacts
from tasks.registry.connection import registry
from tasks.registry.entities import (
    MAX_PARAMS_PER_BATCH,
    flatten_config,
    metric_batches,
    mlflow_key,
    model_values,
)
from tasks.registry.finished_run import FinishedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def log_run(tracking_uri: str, run: FinishedRun) -> str:
    """The id of the MLflow run that holds everything about ``run``.

    A call that was cut off is completed by the next one with the same run and model.

    Args:
      tracking_uri: ``http://...`` or ``sqlite:///...``; without a server files go to the folder
        ``artifacts`` beside the database.
      run: what to log.

    Raises:
      RegistryUnavailable: MLflow does not answer; call again later.
    """
    with registry(tracking_uri) as client:
        found = find_run(client, run.run_id, run.model_digest)
        if found is None:
            experiment = ensure_experiment(client, run.config["registry"]["experiment"])
            source = {"mlflow.source.name": "fedloom", "mlflow.source.type": "JOB"}
            found = client.create_run(experiment, tags=run.tags | source, run_name=run.name)
        mlflow_run_id = str(found.info.run_id)
        if tags.LOGGED not in found.data.tags:
            _log_values(client, found, run)
            with tempfile.TemporaryDirectory(prefix="fedloom-") as folder:
                write_artifacts(Path(folder), run)
                client.log_artifacts(mlflow_run_id, folder)
            client.set_tag(mlflow_run_id, tags.LOGGED, "complete")
            client.set_terminated(mlflow_run_id, "FINISHED")
        return mlflow_run_id


def find_run(client: MlflowClient, run_id: str, model_digest: str | None = None) -> Run | None:
    """The newest MLflow run of a Fedloom run (and model), in any experiment."""
    experiments = [each.experiment_id for each in client.search_experiments()]
    if not experiments:
        return None
    wanted = f"tags.`{tags.RUN_ID}` = '{run_id}'"
    if model_digest:
        wanted += f" and tags.`{tags.MODEL_DIGEST}` = '{model_digest}'"
    runs = client.search_runs(experiments, wanted, max_results=1)
    return runs[0] if runs else None


def ensure_experiment(client: MlflowClient, name: str) -> str:
    """The id of the experiment, created when it is not there."""
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(name)
    if known is not None:
        return str(known.experiment_id)
    try:
        return str(client.create_experiment(name, _artifact_location(client.tracking_uri, name)))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(name).experiment_id)


def _artifact_location(tracking_uri: str, experiment: str) -> str | None:
    """A server decides by itself; MLflow without one would take the working directory."""
    if not tracking_uri.startswith("sqlite:///"):
        return None
    database = Path(tracking_uri.removeprefix("sqlite:///")).resolve()
    return (database.parent / "artifacts" / experiment).as_uri()


def _log_values(client: MlflowClient, found: Run, run: FinishedRun) -> None:
    from mlflow.entities import Dataset, DatasetInput, Metric, Param

    mlflow_run_id = found.info.run_id
    params = [Param(key, value) for key, value in flatten_config(run.config).items()]
    for start in range(0, len(params), MAX_PARAMS_PER_BATCH):
        client.log_batch(mlflow_run_id, params=params[start : start + MAX_PARAMS_PER_BATCH])
    for metrics in metric_batches(run.records, found.info.start_time):
        client.log_batch(mlflow_run_id, metrics=metrics)
    stamp = found.info.start_time + run.round
    final = [
        Metric(mlflow_key(key), value, stamp, run.round)
        for key, value in model_values(run.evaluation).items()
    ]
    client.log_batch(mlflow_run_id, metrics=final)
    identity = run.header["identity"]
    source = canonical_json({**(identity.get("provenance") or {}), "name": run.dataset})
    digest = identity["fingerprint"][:36]  # MLflow's limit
    data = Dataset(run.dataset, digest, source_type="fedloom", source=source[:60_000])
    client.log_inputs(mlflow_run_id, datasets=[DatasetInput(data)])
