"""``fedloom gateway``: the one way by which sites reach Prefect's API."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from deployments.cli.command import Command
from deployments.cli.screen import out, reasons_for
from deployments.cli.stack import require_up
from deployments.stack.stack import StackError, environment, stack_home

app = typer.Typer(
    no_args_is_help=True,
    help="The way by which sites reach Prefect: each with its own token, to its own runs only.",
)


@app.command(cls=Command)
def token(
    name: Annotated[str, typer.Argument(help="The site's name.")],
    revoke: Annotated[
        bool, typer.Option("--revoke", help="End the site's token; nothing is let in by it.")
    ] = False,
) -> None:
    """Make a token for a site and show it, this once; one that it had before ends.

    Hand it to the site's administrator like a password. Here only its SHA-256 is kept, in
    `$FEDLOOM_HOME/secrets/gateway.json`. A gateway that runs sees the change at once.

    Examples:

        fedloom gateway token cleveland

        fedloom gateway token cleveland --revoke
    """
    from deployments.gateway.tokens import Tokens, tokens_file
    from deployments.stack.lifecycle import running_stack

    tokens = Tokens(tokens_file(stack_home()))
    with reasons_for(StackError):
        if revoke:
            tokens.revoke(name)
            out.print(f"The token of {name} has ended.")
            return
        print(tokens.issue(name))
        stack = running_stack(stack_home())
    if stack and not stack.gateway_port:
        out.print("The stack has no gateway yet: `fedloom stack down`, then `fedloom stack up`.")


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Loopback port.")] = 4201,
) -> None:
    """Serve the running stack's gateway in the foreground, on loopback.

    `fedloom stack up` starts one by itself once a site has a token. TLS is the business of a
    reverse proxy before it: `fedloom stack proxy`.

    Example: `fedloom gateway serve --port 4201`
    """
    from deployments.gateway.server import server_command

    stack = require_up()
    with reasons_for(StackError):
        words = server_command(stack.home, port)
        os.execve(words[0], words, {**os.environ, **environment(stack)})
