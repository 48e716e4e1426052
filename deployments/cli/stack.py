"""``fedloom stack``: Prefect server, MLflow server and worker on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from deployments.cli.alerts import in_the_last_day
from deployments.cli.screen import fail, out, reasons_for, steps
from deployments.stack.stack import (
    Stack,
    StackError,
    access,
    auth_file,
    public_environment,
    stack_home,
)

app = typer.Typer(
    no_args_is_help=True,
    help="Prefect server, MLflow server and one worker on this machine, for loopback only.",
)

Port = Annotated[int | None, typer.Option(help="This port or none. By default a free one.")]


def ensure_up(
    prefect_port: int | None = None, mlflow_port: int | None = None, **options: Any
) -> Stack:
    """The running stack of this home, started when it is not up; this process may talk to it."""
    from deployments.stack.lifecycle import bring_up
    from deployments.stack.options import Options

    with reasons_for(StackError), steps("Starting the local stack") as tell:
        stack = bring_up(
            stack_home(),
            prefect_port=prefect_port,
            mlflow_port=mlflow_port,
            options=Options(**options),
            tell=tell,
        )
        os.environ.update(access(stack))
        return stack


def require_up() -> Stack:
    """The running stack of this home, or an end with the way out."""
    from deployments.stack.lifecycle import running_stack

    with reasons_for(StackError):
        stack = running_stack(stack_home())
    if stack is None:
        fail(f"No stack runs in {stack_home()}. Start it: fedloom stack up")
    with reasons_for(StackError):
        os.environ.update(access(stack))
    return stack


@app.command()
def up(
    prefect_port: Port = None,
    mlflow_port: Port = None,
    db: Annotated[
        str | None,
        typer.Option(
            metavar="sqlite|postgres",
            envvar="FEDLOOM_DB",
            help="Where tables are kept. `postgres` is a server of its own under this home; an "
            "existing one is named by `FEDLOOM_DB_URL=postgresql://USER:PASSWORD@HOST:PORT/fedloom`.",
        ),
    ] = None,
    auth: Annotated[
        bool | None,
        typer.Option(
            "--auth/--no-auth",
            envvar="FEDLOOM_AUTH",
            help="Prefect's API and MLflow want a password, in `$FEDLOOM_HOME/secrets/api`.",
        ),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            envvar="FEDLOOM_PUBLIC_URL",
            help="Where a reverse proxy shows this stack; see `fedloom stack proxy`.",
        ),
    ] = None,
) -> None:
    """Start it and wait until it answers. What runs already stays as it is.

    Databases, password and public name are remembered: a second `up` needs not be told again.

    Examples:

        fedloom stack up

        FEDLOOM_HOME=/data/fedloom fedloom stack up --db postgres --auth
    """
    show(ensure_up(prefect_port, mlflow_port, database=db, auth=auth, public_url=public_url))


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
    if count := in_the_last_day():
        out.print(f"alerts in the last day: {count}; read them with `fedloom alerts`")
    if not all(one.answers for one in services):
        raise typer.Exit(1)


@app.command()
def env() -> None:
    """Shell lines that point `prefect` and `mlflow` at this stack.

    A password is not in them: they read it from its file when the shell runs them.

    Example:

        eval "$(fedloom stack env)"

        prefect deployment run train-federated/pneumoniamnist
    """
    import shlex

    stack = require_up()
    for name, value in public_environment(stack).items():
        print(f"export {name}={shlex.quote(value)}")
    if stack.auth:
        file = shlex.quote(str(auth_file(stack.home)))
        print(f'export PREFECT_API_AUTH_STRING="$(cat {file})"')
        print('export MLFLOW_TRACKING_USERNAME="${PREFECT_API_AUTH_STRING%%:*}"')
        print('export MLFLOW_TRACKING_PASSWORD="${PREFECT_API_AUTH_STRING#*:}"')


@app.command()
def proxy(
    listen: Annotated[
        str, typer.Option(help="Where nginx listens: a port, or an address and a port.")
    ] = "443",
    certificate: Annotated[Path | None, typer.Option(help="PEM file of the name's chain.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of its private key.")] = None,
    sites_listen: Annotated[
        str, typer.Option(help="Where nginx listens for sites, once one has a token.")
    ] = "8443",
) -> None:
    """Write an nginx configuration for this stack: one name, TLS, a content security policy.

    Prefect is at the root of the public name, MLflow under `/mlflow/`. The stack must know the
    name: `fedloom stack up --public-url https://NAME`. With TLS, sites reach the gateway by the
    same name on a port of its own, and nothing else there.

    Example:

        fedloom stack proxy --certificate /etc/ssl/fl.pem --key /etc/ssl/fl.key
    """
    from deployments.gateway.limits import read_limits
    from deployments.stack import proxy as nginx
    from deployments.stack.browser import CONTENT_SECURITY_POLICY

    stack = require_up()
    certificate, key = certificate and certificate.absolute(), key and key.absolute()
    with reasons_for(StackError):
        pem = {"certificate": certificate, "key": key}
        site = nginx.site_config(stack, listen, CONTENT_SECURITY_POLICY, **pem)
        if stack.gateway_port and certificate:
            most = read_limits(stack.home).most_bytes
            site += nginx.gateway_config(stack, sites_listen, most, **pem)
        main = nginx.write_proxy(stack.home / "proxy", site)
        out.print(f"{main.parent / 'site.conf'} for an nginx that runs:", soft_wrap=True)
        out.print(f"  ln -s {main.parent / 'site.conf'} /etc/nginx/sites-enabled/fedloom.conf")
        nginx.check_proxy(main)
        out.print(f"{main} for one of its own:", soft_wrap=True)
        out.print(f"  {' '.join(nginx.proxy_command(main))}", soft_wrap=True)
    if not stack.auth:
        out.print("This stack has no password. Before others see it: fedloom stack up --auth")


def show(stack: Stack) -> None:
    """Where the stack answers."""
    out.print(f"Prefect  {stack.prefect_ui_url}")
    out.print(f"MLflow   {stack.mlflow_url}")
    if stack.gateway_port:
        out.print(f"Sites    {stack.gateway_url}")
    if stack.public_url:
        out.print(f"Public   {stack.public_url}  through a reverse proxy: fedloom stack proxy")
    if stack.auth:
        out.print(f"Password in {auth_file(stack.home)}", soft_wrap=True)
    out.print(f"State    {stack.home}  (logs in {stack.home / 'logs'})", soft_wrap=True)
    out.print('Shell    eval "$(fedloom stack env)"  points `prefect` and `mlflow` here')
