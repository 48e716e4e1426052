"""Where Prefect, MLflow and the event log keep their tables: SQLite files or PostgreSQL.

No URL here holds a password: it is in a file of its owner only, which libpq and asyncpg read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.stack.stack import LOOPBACK, POSTGRES, SQLITE, Stack, StackError, pgpass_file

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

URL_VARIABLE = "FEDLOOM_DB_URL"
USER = "fedloom"
# Databases on a server are named after this, or after the database in the server's URL.
PREFIX = "fedloom"


@dataclass(frozen=True)
class Databases:
    """URLs without passwords; ``events`` is empty where the event log takes its own default."""

    prefect: str
    mlflow: str
    events: str


def databases(stack: Stack) -> Databases:
    """The databases of a stack."""
    if stack.database == SQLITE:
        return Databases(
            f"sqlite+aiosqlite:///{stack.home / 'prefect' / 'prefect.db'}",
            f"sqlite:///{stack.home / 'mlflow' / 'mlflow.db'}",
            "",
        )
    server, prefix = server_url(stack), database_prefix(stack)

    def url(driver: str, name: str) -> str:
        here = server.set(drivername=f"postgresql+{driver}", database=f"{prefix}_{name}")
        if driver == "asyncpg" and (mode := here.query.get("sslmode")):
            # asyncpg's word for the same choices.
            here = here.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
        return here.render_as_string(hide_password=False)

    return Databases(url("asyncpg", "prefect"), url("psycopg", "mlflow"), url("psycopg", "events"))


def server_url(stack: Stack) -> URL:
    """The PostgreSQL server, with the file of its password and without a database."""
    from sqlalchemy.engine import URL, make_url

    if stack.database == POSTGRES:
        server = URL.create("postgresql", USER, host=LOOPBACK, port=stack.postgres_port)
    else:
        server = make_url(stack.database).set(database=None)
    if stack.database == POSTGRES or pgpass_file(stack.home).exists():
        server = server.update_query_dict({"passfile": str(pgpass_file(stack.home))})
    return server


def database_names(stack: Stack) -> dict[str, str]:
    """Names of the databases on the server, by who uses them."""
    prefix = database_prefix(stack)
    return {use: f"{prefix}_{use}" for use in ("prefect", "mlflow", "events")}


def database_prefix(stack: Stack) -> str:
    """What the names of the databases begin with."""
    from sqlalchemy.engine import make_url

    if stack.database in (SQLITE, POSTGRES):
        return PREFIX
    return make_url(stack.database).database or PREFIX


def choose_database(
    home: Path,
    asked: str | None,
    earlier: Stack | None,
    outer: Mapping[str, str] = os.environ,
) -> tuple[str, str]:
    """What a stack keeps its tables in, and the server's password when the environment gave one.

    Args:
      home: of the stack.
      asked: ``sqlite``, ``postgres`` or None.
      earlier: the stack as it was last started.
      outer: ``FEDLOOM_DB_URL`` names an existing server, e.g.
        ``postgresql://fedloom:PASSWORD@db.example:5432/fedloom?sslmode=require``.

    Raises:
      StackError: an unknown choice, or another one than that with which this home has data.
    """
    if asked not in (None, SQLITE, POSTGRES):
        raise StackError(
            f"--db {asked!r} is unknown; it is {SQLITE} or {POSTGRES}. An existing server is named "
            f"by {URL_VARIABLE}."
        )
    url, word = "", ""
    if outer.get(URL_VARIABLE) and asked != SQLITE:
        url, word = parse_server(outer[URL_VARIABLE])
    before = earlier.database if earlier else SQLITE
    chosen = url or asked or before
    if asked == POSTGRES and not url and before != SQLITE:
        chosen = before  # a server of its own or the existing one, as it was
    if chosen != before and holds_data(home, before):
        raise StackError(
            f"{home} has its runs and models in {before}; in {chosen} they would not be seen. "
            f"`fedloom stack up --db {POSTGRES if before != SQLITE else SQLITE}` goes on with "
            "them. For another database take another FEDLOOM_HOME; with "
            f"FEDLOOM_STORE={home / 'store'} its runs find there what was trained here."
        )
    return chosen, word


def parse_server(text: str) -> tuple[str, str]:
    """The URL of a PostgreSQL server without its password, and the password.

    Raises:
      StackError: it is no such URL. The message does not repeat it: it may hold a password.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    rule = (
        f"{URL_VARIABLE} must read postgresql://USER:PASSWORD@HOST:PORT/PREFIX; the databases "
        "PREFIX_prefect, PREFIX_mlflow and PREFIX_events are used or created."
    )
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise StackError(rule) from error
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise StackError(f"{rule} It names {url.get_backend_name()!r}.")
    if not (url.host and url.username):
        raise StackError(f"{rule} It names no {'user' if url.host else 'host'}.")
    word = str(url.password or "")
    public = url.set(drivername="postgresql", port=url.port or 5432)
    public = public._replace(password=None)
    return public.render_as_string(hide_password=False), word


def holds_data(home: Path, database: str) -> bool:
    """Whether a stack has kept anything in that database for this home."""
    if database == SQLITE:
        return (home / "prefect" / "prefect.db").exists()
    if database == POSTGRES:
        return (home / "postgres" / "data").exists()
    return True
