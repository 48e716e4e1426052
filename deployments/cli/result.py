"""What a completed run left, with the links to look at it."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.cli.following import FlowRun
from deployments.stack.stack import Stack

SHOWN = ("accuracy", "balanced_accuracy", "auc", "r2", "perplexity", "loss")


def result_rows(stack: Stack, flow_run: FlowRun) -> Iterator[tuple[str, str]]:
    """Scores, digests and links of a completed flow run: (what, value).

    Raises:
      RegistryUnavailable: MLflow does not answer.
    """
    from tasks.registry import tags
    from tasks.registry.connection import registry
    from tasks.registry.log_run import find_run

    yield "run", f"{flow_run.name}, {flow_run.seconds:.0f} s"
    with registry(stack.mlflow_url) as client:
        logged = find_run(client, flow_run.resumes or flow_run.id)
        if logged is not None:
            for split in ("val", "test"):
                for metric in SHOWN:
                    if (value := logged.data.metrics.get(f"{split}/{metric}")) is not None:
                        yield f"{split} {metric.replace('_', ' ')}", f"{value:.4f}"
            yield "config digest", logged.data.tags.get(tags.CONFIG_DIGEST, "")
            yield "final digest", logged.data.tags.get(tags.MODEL_DIGEST, "")
        yield "run in Prefect", stack.flow_run_url(flow_run.id)
        if logged is not None:
            run = logged.info
            yield (
                "run in MLflow",
                f"{stack.mlflow_url}/#/experiments/{run.experiment_id}/runs/{run.run_id}",
            )
            for version in client.search_model_versions(f"run_id = '{run.run_id}'"):
                page = f"{stack.mlflow_url}/#/models/{version.name}/versions/{version.version}"
                yield f"{version.name}/{version.version} for review", page
                if found := version.tags.get(tags.PRIVACY_AUDIT):
                    yield "privacy audit", found
