"""``fedloom sites statistics``: what the sites hold, by figures of their columns."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.screen import fail, out, reasons_for

if TYPE_CHECKING:
    from fedcore.config import RunConfig

DEPLOYMENT = "federated-statistics/federated-statistics"


class Part(StrEnum):
    """Whose rows."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


def statistics(
    file: Annotated[
        Path,
        typer.Argument(help="YAML of a run over sites: its purpose, audit and sites are taken."),
    ],
    split: Annotated[Part, typer.Option(help="Of which rows.")] = Part.TRAIN,
    by_label: Annotated[
        bool, typer.Option("--by-label", help="Also of each label's rows apart.")
    ] = False,
    bins: Annotated[
        int, typer.Option(min=0, max=63, help="Of each column of numbers; 0: no quantiles.")
    ] = 20,
) -> None:
    """Ask the sites for counts, means, variances, quantiles and missing values of their columns.

    What a site's policy does not let out, or what a small group could be told from, stays there,
    and the table says so. Runs through the local stack, as `fedloom run` does.

    Example: `fedloom sites statistics configs/train_federated/heart-disease-sites.yaml`
    """
    from deployments.cli.run import ready_stack, start_run
    from fedcore.config import ConfigError, load_config

    with reasons_for(ConfigError):
        config = load_config(file)
    question = {"split": split.value, "by_label": by_label, "bins": bins}
    parameters = parameters_of(config, question)
    stack = ready_stack()
    flow_run_id = start_run(DEPLOYMENT, parameters)
    out.print(f"Run      {stack.flow_run_url(flow_run_id)}", soft_wrap=True)
    _conclude(stack, flow_run_id)


def parameters_of(config: RunConfig, question: dict[str, Any]) -> dict[str, Any]:
    """The flow's parameters; ends the command where the run is of no sites."""
    if config.engine.kind != "sites":
        fail(
            f"engine.kind={config.engine.kind!r}: there are no sites to ask. Statistics of data "
            "that are here: fedloom run with --dry-run, or any notebook."
        )
    return {
        "name": config.name,
        "statistics": question,
        "min_sites": config.rounds.min_clients,
        "audit": config.audit.model_dump(mode="json"),
        "engine": config.engine.model_dump(mode="json"),
    }


def _conclude(stack: Any, flow_run_id: str) -> None:
    from deployments.cli.following import follow_run
    from deployments.stack.stack import StackError

    with reasons_for(StackError):
        flow_run, _ = follow_run(stack, flow_run_id)
    if flow_run.state_type != "COMPLETED":
        fail(
            f"the run {flow_run.name!r} ended as {flow_run.state_name}: {flow_run.reason}\n"
            f"  its logs: {stack.flow_run_url(flow_run_id)}"
        )
    print(_table(flow_run_id))


def _table(flow_run_id: str) -> str:
    """The markdown that the run has left, but for its picture."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        ArtifactFilter,
        ArtifactFilterFlowRunId,
        ArtifactFilterKey,
    )

    from tasks.site_statistics import KEY

    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]),
                key=ArtifactFilterKey(any_=[KEY]),
            )
        )
    text = str(found[0].data) if found else ""
    return text.partition("![")[0].strip()
