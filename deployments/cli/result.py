"""What a completed run left, with the links to look at it."""

from __future__ import annotations

from rich.table import Table

from deployments.cli.following import FlowRun
from deployments.stack.stack import Stack


def result_table(stack: Stack, flow_run: FlowRun) -> Table:
    """Scores, digests and links of a completed flow run."""
    from tasks.registry import tags
    from tasks.registry.connection import registry
    from tasks.registry.log_run import find_run

    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("run", f"{flow_run.name}, {flow_run.seconds:.0f} s")
    with registry(stack.mlflow_url) as client:
        logged = find_run(client, flow_run.id)
        if logged is not None:
            for split in ("val", "test"):
                for metric in ("accuracy", "balanced_accuracy", "auc", "loss"):
                    if (value := logged.data.metrics.get(f"{split}/{metric}")) is not None:
                        table.add_row(f"{split} {metric}", f"{value:.4f}")
            table.add_row("config digest", logged.data.tags.get(tags.CONFIG_DIGEST, ""))
            table.add_row("final digest", logged.data.tags.get(tags.MODEL_DIGEST, ""))
        table.add_row("in Prefect", stack.flow_run_url(flow_run.id))
        if logged is not None:
            run = logged.info
            table.add_row(
                "in MLflow",
                f"{stack.mlflow_url}/#/experiments/{run.experiment_id}/runs/{run.run_id}",
            )
            for version in client.search_model_versions(f"run_id = '{run.run_id}'"):
                table.add_row("model version", f"{version.name}/{version.version}")
                table.add_row(
                    "to review",
                    f"{stack.mlflow_url}/#/models/{version.name}/versions/{version.version}",
                )
    return table
