"""``fedloom run``, ``demo``, ``follow`` and ``deploy``: a configuration through the local stack."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.config import Overrides
from deployments.cli.screen import fail, out, reasons_for, steps
from deployments.cli.stack import ensure_up, require_up
from deployments.stack.stack import Stack, StackError, data_environment, environment

if TYPE_CHECKING:
    from fedcore.config import RunConfig


def run(
    file: Annotated[Path, typer.Argument(help="YAML file of a run.")],
    override: Overrides = None,
    in_process: Annotated[
        bool,
        typer.Option("--in-process", help="Here and now, without Prefect; the same final digest."),
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Start it and return; it goes on in the worker.")
    ] = False,
) -> None:
    """Run a configuration: through the local stack, which is started when it is not up.

    Ctrl-C stops the display, not the run. The exit code is 0 when the run completed.

    Examples:

        fedloom run configs/train_federated/demo.yaml

        fedloom run my.yaml -o rounds.count=10 -o strategy.kind=fedprox

        fedloom run my.yaml --in-process
    """
    from fedcore.config import ConfigError, load_config, parse_overrides

    with reasons_for(ConfigError):
        config = load_config(file, parse_overrides(override or []))
    if in_process:
        from deployments.cli.in_process import run_here

        run_here(config)
    else:
        run_through_stack(config, detach=detach)


def demo() -> None:
    """A whole federated run on handwritten digits, needing no download, in under three minutes.

    Brings the stack up, registers the deployments, starts `train-federated/demo` on the worker and
    follows it.

    Examples:

        fedloom demo

        FEDLOOM_HOME=/data/fedloom fedloom demo
    """
    from deployments.steps import PROJECT
    from fedcore.config import ConfigError, load_config

    with reasons_for(ConfigError):
        config = load_config(PROJECT / "configs" / "train_federated" / "demo.yaml")
    run_through_stack(config)


def follow(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Id of the flow run.")],
) -> None:
    """Follow a run that was started elsewhere, in Prefect's console for example.

    Example: `fedloom follow 1c0076ac-c10d-4f4f-bf8f-ef1f6d8e8124`
    """
    conclude(require_up(), run_id)


def deploy() -> None:
    """Bring the stack up and register the deployments of `prefect.yaml`.

    Afterwards, from any folder:

        eval "$(fedloom stack env)"

        prefect deployment run train-federated/pneumoniamnist
    """
    from deployments.registration import deployment_names, register

    stack = ensure_up()
    with reasons_for(StackError), steps("Registering the deployments"):
        register(stack)
    out.print(f"Registered: {', '.join(deployment_names())}")
    out.print(f"They are at {stack.prefect_ui_url}/deployments")


def run_through_stack(config: RunConfig, *, detach: bool = False) -> None:
    """Start the configuration on the worker and, unless detached, follow it to its end."""
    from deployments.registration import CUSTOM, FLOW, deployment_names, ensure_registered

    stack = ensure_up()
    with reasons_for(StackError), steps("Registering the deployments"):
        ensure_registered(stack)
    name = config.name if config.name in deployment_names() else CUSTOM
    flow_run_id = start_run(stack, f"{FLOW}/{name}", config.model_dump(mode="json"))
    out.print(f"Run      {stack.flow_run_url(flow_run_id)}", soft_wrap=True)
    out.print(f"Config   digest {config.digest}", soft_wrap=True)
    if detach:
        out.print(f"Follow   fedloom follow {flow_run_id}")
        return
    conclude(stack, flow_run_id)


def start_run(stack: Stack, deployment: str, parameters: dict[str, Any]) -> str:
    """Ask the worker for a run of a deployment; returns the flow run's id.

    It works in the folder and with the data sets of this command, so that paths mean the same.
    """
    # Before Prefect is imported: it reads its settings from here.
    os.environ.update(environment(stack))
    from prefect.deployments import run_deployment

    flow_run: Any = run_deployment(
        deployment,
        parameters=parameters,
        timeout=0,
        as_subflow=False,
        job_variables=job_variables(),
    )
    return str(flow_run.id)


def job_variables() -> dict[str, Any]:
    """What the worker's process for a run started here has in common with this one.

    Prefect lays ``env`` over the worker's own environment; what is unset here stays as it was when
    the stack was started.
    """
    return {"working_dir": str(Path.cwd()), "env": data_environment()}


def conclude(stack: Stack, flow_run_id: str) -> None:
    """Follow the run, then show what it left; ends the command with 1 when it failed."""
    from deployments.cli.following import follow_run
    from deployments.cli.progress import rounds_table
    from deployments.cli.result import result_rows
    from tasks.registry.connection import RegistryUnavailable

    try:
        with reasons_for(StackError):
            flow_run, progress = follow_run(stack, flow_run_id)
    except KeyboardInterrupt:
        out.print("\nThe run goes on without this display.")
        out.print(f"Follow   fedloom follow {flow_run_id}")
        out.print(
            f"Cancel   PREFECT_API_URL={stack.prefect_api_url} "
            f"prefect flow-run cancel {flow_run_id}",
            soft_wrap=True,
        )
        raise typer.Exit(130) from None
    if progress.lines and out.is_terminal:
        out.print(rounds_table(progress.lines))
    if flow_run.state_type != "COMPLETED":
        fail(
            f"the run {flow_run.name!r} ended as {flow_run.state_name}: {flow_run.reason}\n"
            f"  its logs: {stack.flow_run_url(flow_run_id)}"
        )
    with reasons_for(RegistryUnavailable):
        rows = list(result_rows(stack, flow_run))
    width = max(len(what) for what, _ in rows)
    for what, value in rows:
        out.print(f"{what:<{width}}  {value}", soft_wrap=True)
