"""``fedloom stack``: Prefect server, MLflow server and worker on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli.screen import fail, out, reasons_for, steps
from deployments.stack.stack import Stack, StackError, environment, stack_home

app = typer.Typer(
    no_args_is_help=True,
    help="Prefect server, MLflow server and one worker on this machine, for loopback only.",
)

Port = Annotated[int | None, typer.Option(help="This port or none. By default a free one.")]


def ensure_up(prefect_port: int | None = None, mlflow_port: int | None = None) -> Stack:
    """The running stack of this home, started when it is not up."""
    from deployments.stack.lifecycle import bring_up

    with reasons_for(StackError), steps("Starting the local stack") as tell:
        return bring_up(stack_home(), prefect_port=prefect_port, mlflow_port=mlflow_port, tell=tell)


def require_up() -> Stack:
    """The running stack of this home, or an end with the way out."""
    from deployments.stack.lifecycle import running_stack

    with reasons_for(StackError):
        stack = running_stack(stack_home())
    if stack is None:
        fail(f"No stack runs in {stack_home()}. Start it: fedloom stack up")
    return stack


@app.command()
def up(prefect_port: Port = None, mlflow_port: Port = None) -> None:
    """Start it and wait until it answers. What runs already stays as it is.

    Examples:

        fedloom stack up

        FEDLOOM_HOME=/data/fedloom fedloom stack up --prefect-port 4300
    """
    show(ensure_up(prefect_port, mlflow_port))


@app.command()
def down() -> None:
    """End what `up` started, flow runs of the worker too; files stay.

    A run that is cut off counts as crashed: start the stack again and press Retry in Prefect, and
    it goes on where it was.
    """
    from deployments.stack.lifecycle import bring_down

    with reasons_for(StackError), steps("Ending the local stack") as tell:
        ended = bring_down(stack_home(), tell=tell)
    said = "The stack is down." if ended else f"No stack runs in {stack_home()}."
    out.print(said, soft_wrap=True)


@app.command()
def status() -> None:
    """What runs, where it answers and where its log is; exit code 1 when something is missing."""
    from rich.table import Table

    from deployments.stack.lifecycle import stack_status

    stack = require_up()
    with reasons_for(StackError):
        services = stack_status(stack)
    table = Table("service", "state", "pid", "answers", "where", box=None)
    for one in services:
        answers = "yes" if one.answers else "[red]no[/red]"
        table.add_row(one.name, one.state, str(one.pid), answers, one.where)
    out.print(table)
    out.print(f"logs in {stack.home / 'logs'}", soft_wrap=True)
    if not all(one.answers for one in services):
        raise typer.Exit(1)


@app.command()
def env() -> None:
    """Shell lines that point `prefect` and `mlflow` at this stack.

    Example:

        eval "$(fedloom stack env)"

        prefect deployment run train-federated/pneumoniamnist
    """
    import shlex

    for name, value in environment(require_up()).items():
        print(f"export {name}={shlex.quote(value)}")


def show(stack: Stack) -> None:
    """Where the stack answers."""
    out.print(f"Prefect  {stack.prefect_ui_url}")
    out.print(f"MLflow   {stack.mlflow_url}")
    out.print(f"State    {stack.home}  (logs in {stack.home / 'logs'})", soft_wrap=True)
    out.print('Shell    eval "$(fedloom stack env)"  points `prefect` and `mlflow` here')
