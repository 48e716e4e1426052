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
    file: Annotated[Path | None, typer.Argument(help="YAML file of a run.")] = None,
    override: Overrides = None,
    resume: Annotated[
        str, typer.Option("--resume", metavar="RUN", help="Go on with a run that stopped.")
    ] = "",
    extend: Annotated[
        str, typer.Option("--extend", metavar="RUN", help="More rounds of a run: with --rounds.")
    ] = "",
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=2, help="With --extend: rounds in all.")
    ] = None,
    fork: Annotated[
        str,
        typer.Option("--fork", metavar="RUN", help="Begin in the middle of one: with --at-round."),
    ] = "",
    at_round: Annotated[
        int | None,
        typer.Option("--at-round", min=0, help="With --fork: rounds that are kept; 0 keeps data."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Audit, partition and plan only; no training.")
    ] = False,
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

    A run that stopped goes on with --resume. --extend and --fork begin a new run with the finished
    rounds of another, which are not trained again. RUN is an id, its beginning, or a name.

    Examples:

        fedloom run configs/train_federated/demo.yaml

        fedloom run my.yaml -o rounds.count=10 -o strategy.kind=fedprox

        fedloom run my.yaml --in-process

        fedloom run my.yaml --dry-run

        fedloom run --resume 1c0076ac

        fedloom run --extend 1c0076ac --rounds 20

        fedloom run --fork 1c0076ac --at-round 5 -p training.learning_rate=0.01
    """
    from fedcore.config import ConfigError, load_config, parse_overrides

    _one_of(file, resume, extend, fork)
    _belongs("--rounds", rounds, "--extend", extend)
    _belongs("--at-round", at_round, "--fork", fork)
    with reasons_for(ConfigError):
        changes = parse_overrides(override or [])
        config = load_config(file, changes) if file else None
    if config is None:
        from deployments.cli.again import Again, again

        asked = Again(resume, extend, rounds or 0, fork, at_round or 0, changes, dry_run)
        again(asked, in_process=in_process, detach=detach)
    elif in_process:
        from deployments.cli.in_process import plan_here, run_here

        plan_here(config) if dry_run else run_here(config)
    else:
        run_through_stack(config, dry_run=dry_run, detach=detach)


def _one_of(file: Path | None, resume: str, extend: str, fork: str) -> None:
    given = {"FILE": file, "--resume": resume, "--extend": extend, "--fork": fork}
    named = [name for name, value in given.items() if value]
    if len(named) != 1:
        fail(f"give one of {', '.join(given)}; {' and '.join(named) or 'none'} was given.")


def _belongs(option: str, value: int | None, to: str, other: str) -> None:
    if (value is not None) != bool(other):
        fail(f"{option} and {to} belong together; give both or neither.")


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
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Id of the run, its beginning, or a name.")
    ],
) -> None:
    """Follow a run that was started elsewhere, in Prefect's console for example.

    Example: `fedloom follow 1c0076ac`
    """
    stack = for_prefect(require_up())  # before anything of Prefect is imported

    from tasks import home
    from tasks.runs import RunNotFound, find_run

    with reasons_for(RunNotFound):
        found = find_run(run, home.store())
    flow_run = found.flow_run or fail(f"Prefect knows no run {found.id}.")
    conclude(stack, str(flow_run.id))


def deploy() -> None:
    """Bring the stack up and register the deployments of `prefect.yaml`.

    Afterwards, from any folder:

        eval "$(fedloom stack env)"

        prefect deployment run train-federated/pneumoniamnist
    """
    from deployments.registration import deployment_names, register

    stack = for_prefect(ensure_up())
    with reasons_for(StackError), steps("Registering the deployments"):
        register(stack)
    out.print(f"Registered: {', '.join(deployment_names())}")
    out.print(f"They are at {stack.prefect_ui_url}/deployments")


def run_through_stack(config: RunConfig, *, dry_run: bool = False, detach: bool = False) -> None:
    """Start the configuration on the worker and, unless detached, follow it to its end."""
    stack = ready_stack()
    parameters = config.model_dump(mode="json") | ({"dry_run": True} if dry_run else {})
    flow_run_id = start_run(deployment_of(config), parameters)
    show_and_follow(stack, flow_run_id, config, detach=detach)


def ready_stack() -> Stack:
    """The stack, up, with the deployments registered."""
    from deployments.registration import ensure_registered

    stack = for_prefect(ensure_up())
    with reasons_for(StackError), steps("Registering the deployments"):
        ensure_registered(stack)
    return stack


def deployment_of(config: RunConfig) -> str:
    """The deployment of this name, else the one for any configuration."""
    from deployments.registration import CUSTOM, FLOW, deployment_names

    return f"{FLOW}/{config.name if config.name in deployment_names(FLOW) else CUSTOM}"


def show_and_follow(stack: Stack, flow_run_id: str, config: RunConfig, *, detach: bool) -> None:
    """Say where a run is and, unless detached, follow it to its end."""
    out.print(f"Run      {stack.flow_run_url(flow_run_id)}", soft_wrap=True)
    out.print(f"Config   digest {config.digest}", soft_wrap=True)
    if detach:
        out.print(f"Follow   fedloom follow {flow_run_id}")
        return
    conclude(stack, flow_run_id)


def for_prefect(stack: Stack) -> Stack:
    """The stack itself, known to Prefect, which reads it when it is first imported."""
    os.environ.update(environment(stack))
    return stack


def start_run(deployment: str, parameters: dict[str, Any]) -> str:
    """Ask the worker for a run of a deployment; returns the flow run's id.

    It works in the folder and with the data sets of this command, so that paths mean the same.
    """
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
        out.print(f"Cancel   fedloom cancel {flow_run_id}")
        raise typer.Exit(130) from None
    if progress.lines and out.is_terminal:
        out.print(rounds_table(progress.lines))
    if flow_run.state_type != "COMPLETED":
        fail(
            f"the run {flow_run.name!r} ended as {flow_run.state_name}: {flow_run.reason}\n"
            f"  its logs: {stack.flow_run_url(flow_run_id)}"
        )
    if flow_run.message:
        out.print(flow_run.message, soft_wrap=True)
    with reasons_for(RegistryUnavailable):
        rows = list(result_rows(stack, flow_run))
    width = max(len(what) for what, _ in rows)
    for what, value in rows:
        out.print(f"{what:<{width}}  {value}", soft_wrap=True)
