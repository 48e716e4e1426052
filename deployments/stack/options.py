"""How a stack is run: its databases, its password, its public name. Remembered in its home."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from deployments.stack.credentials import ensure_auth, refuse_readable, remember_database_password
from deployments.stack.database import choose_database
from deployments.stack.ports import choose_port, describe_holder
from deployments.stack.stack import (
    POSTGRES,
    SQLITE,
    Stack,
    StackError,
    auth_file,
    pgpass_file,
)

# Not 5432: that is the machine's own PostgreSQL, which may start later.
POSTGRES_PORT = 5433
GATEWAY_PORT = 4201


@dataclass(frozen=True)
class Options:
    """What ``up`` was asked for; None is as the last time.

    Attributes:
      database: ``sqlite`` or ``postgres``.
      auth: whether Prefect's API and MLflow want a password.
      public_url: where a reverse proxy shows the stack; empty when there is none any more.
    """

    database: str | None = None
    auth: bool | None = None
    public_url: str | None = None


def with_options(
    stack: Stack, earlier: Stack | None, options: Options, tell: Callable[[str], None]
) -> Stack:
    """The stack with its options, their secrets and its cluster in place.

    Raises:
      StackError: they cannot be, or do not go with what the home holds.
    """
    database, word = choose_database(stack.home, options.database, earlier)
    last = earlier or stack
    stack = replace(
        stack,
        database=database,
        auth=last.auth if options.auth is None else options.auth,
        public_url=last.public_url if options.public_url is None else _public(options.public_url),
    )
    if stack.auth:
        ensure_auth(stack.home)
    for secret in (auth_file(stack.home), pgpass_file(stack.home)):
        refuse_readable(secret)
    if database == POSTGRES:
        return _with_cluster(stack, last.postgres_port or POSTGRES_PORT, tell)
    if database != SQLITE:
        _prepare_server(stack, word)
    return stack


def with_gateway(stack: Stack, earlier: Stack | None, tell: Callable[[str], None]) -> Stack:
    """The stack with a port for the gateway of sites, if a site has a token."""
    from deployments.gateway.tokens import tokens_file

    if not tokens_file(stack.home).exists():
        return stack
    refuse_readable(tokens_file(stack.home))
    first = (earlier and earlier.gateway_port) or GATEWAY_PORT
    taken = frozenset({stack.prefect_port, stack.mlflow_port, stack.postgres_port})
    port = choose_port(first, taken=taken)
    if port != first:
        tell(f"The gateway uses port {port}: {first} is taken by {describe_holder(first)}")
    return replace(stack, gateway_port=port)


def refuse_other_options(stack: Stack, options: Options) -> None:
    """Raises StackError when a stack that runs was asked for with other options."""
    is_postgres = stack.database != SQLITE
    wanted_postgres = None if options.database is None else options.database != SQLITE
    public = None if options.public_url is None else _public(options.public_url)
    for what, wanted, has in (
        ("--db", wanted_postgres, is_postgres),
        ("--auth", options.auth, stack.auth),
        ("--public-url", public, stack.public_url),
    ):
        if wanted not in (None, has):
            raise StackError(
                f"The stack of {stack.home} runs already, with another {what}. "
                "`fedloom stack down` first."
            )


def _with_cluster(stack: Stack, first: int, tell: Callable[[str], None]) -> Stack:
    from deployments.stack.postgres import ensure_cluster

    taken = frozenset({stack.prefect_port, stack.mlflow_port})
    port = choose_port(first, taken=taken)
    if port != first:
        tell(f"PostgreSQL uses port {port}: {first} is taken by {describe_holder(first)}")
    stack = replace(stack, postgres_port=port)
    tell("PostgreSQL: the cluster")
    ensure_cluster(stack)
    return stack


def _prepare_server(stack: Stack, word: str) -> None:
    from sqlalchemy.engine import make_url

    from deployments.stack.postgres import create_databases

    server = make_url(stack.database)
    if word:
        remember_database_password(
            stack.home,
            host=server.host or "",
            port=str(server.port),
            user=server.username or "",
            word=word,
        )
    create_databases(stack)


def _public(url: str) -> str:
    parts = urlsplit(url)
    if url and (
        parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/")
    ):
        raise StackError(
            f"--public-url {url!r} must read https://NAME or https://NAME:PORT, without a path: "
            "Prefect's pages are at its root, MLflow's under /mlflow/."
        )
    return url.rstrip("/")
