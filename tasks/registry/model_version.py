"""A logged run's model as a registered version with the alias ``challenger``."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.registry import tags
from tasks.registry.card import model_card
from tasks.registry.champion import compare_with_champion
from tasks.registry.connection import registry
from tasks.registry.entities import mlflow_key, model_values
from tasks.registry.finished_run import FinishedRun
from tasks.registry.model_folder import write_model

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

MAX_DESCRIPTION = 5000
"""mlflow.store.model_registry.dbmodels, release 3.17; SQLite would take more, Postgres refuses."""


@dataclass(frozen=True)
class VersionRef:
    """A registered model version.

    Attributes:
      name: registered model.
      version: its number, as MLflow writes it.
    """

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


def register_version(tracking_uri: str, run: FinishedRun, mlflow_run_id: str) -> VersionRef:
    """The model version of a logged run, made when there is none yet.

    A second call for the same run and model finds the first one's version; one that was cut off is
    completed. ``challenger`` never moves back to an older version, and never to one whose claimed
    epsilon is refuted: that one is there for review alone.

    Args:
      tracking_uri: of the server that holds the run.
      run: what was logged.
      mlflow_run_id: as :func:`tasks.registry.log_run.log_run` gives.

    Raises:
      RegistryUnavailable: MLflow does not answer; call again later.
    """
    with registry(tracking_uri) as client:
        found = find_version(client, run)
        if found is None:
            _ensure_model(client, run)
            logged = _logged_model(client, run, mlflow_run_id)
            comparison = compare_with_champion(client, run)
            made = client.create_model_version(
                run.model_name,
                source=_source(tracking_uri, logged),
                run_id=mlflow_run_id,
                model_id=logged.model_id,
                tags=run.tags | {tags.LOGGED_MODEL: logged.model_id},
                description=model_card(run, comparison, mlflow_run_id, MAX_DESCRIPTION),
            )
            found = VersionRef(made.name, str(made.version))
        if not run.is_refuted:
            _set_challenger(client, found)
        return found


def _source(tracking_uri: str, logged: LoggedModel) -> str:
    """Where the version's files are.

    A server resolves the model's id; without one MLflow 3.17 would look the id up in the process's
    global store, so that the folder itself is named.
    """
    if tracking_uri.startswith(("http://", "https://")):
        return f"models:/{logged.model_id}"
    return str(logged.artifact_location)


def find_version(client: MlflowClient, run: FinishedRun) -> VersionRef | None:
    """The version that was made of this run and model, or None."""
    wanted = (
        f"name = '{run.model_name}' and tags.`{tags.RUN_ID}` = '{run.run_id}' "
        f"and tags.`{tags.MODEL_DIGEST}` = '{run.model_digest}'"
    )
    found = client.search_model_versions(wanted, max_results=1)
    return VersionRef(found[0].name, str(found[0].version)) if found else None


def _ensure_model(client: MlflowClient, run: FinishedRun) -> None:
    from mlflow.exceptions import MlflowException

    about = f"Federated models of {run.dataset}, made and tagged by Fedloom."
    try:
        client.create_registered_model(
            run.model_name, tags={tags.DATASET: run.dataset}, description=about
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _logged_model(client: MlflowClient, run: FinishedRun, mlflow_run_id: str) -> LoggedModel:
    """The run's model folder in MLflow; one that was not finished is made again.

    The steps of ``mlflow.pyfunc.log_model`` on one explicit client: the fluent function goes by the
    process's global URI and active run, which concurrent flows would share.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
    from mlflow.models import Model

    parent = client.get_run(mlflow_run_id)
    experiment = parent.info.experiment_id
    mine = f"tags.`{tags.RUN_ID}` = '{run.run_id}'"
    mine += f" and tags.`{tags.MODEL_DIGEST}` = '{run.model_digest}'"
    for earlier in client.search_logged_models([experiment], filter_string=mine):
        if earlier.status == LoggedModelStatus.READY:
            return earlier
        client.delete_logged_model(earlier.model_id)
    logged = client.create_logged_model(
        experiment, name=run.model_name, source_run_id=mlflow_run_id, tags=run.tags
    )
    about = Model(
        artifact_path=logged.artifact_location,
        run_id=mlflow_run_id,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
    )
    with tempfile.TemporaryDirectory(prefix="fedloom-") as scratch:
        folder = Path(scratch, "model")
        write_model(folder, run, about)
        client.log_model_artifacts(logged.model_id, str(folder))
    client.log_outputs(mlflow_run_id, [LoggedModelOutput(logged.model_id, step=run.round)])
    stamp = parent.info.start_time + run.round
    metrics = [
        Metric(mlflow_key(key), value, stamp, run.round, model_id=logged.model_id)
        for key, value in model_values(run.evaluation).items()
    ]
    client.log_batch(mlflow_run_id, metrics=metrics)
    return client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)


def _set_challenger(client: MlflowClient, version: VersionRef) -> None:
    aliases = client.get_registered_model(version.name).aliases
    if int(aliases.get(tags.CHALLENGER, 0)) < int(version.version):
        client.set_registered_model_alias(version.name, tags.CHALLENGER, version.version)
