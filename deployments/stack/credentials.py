"""Secrets of a stack: files that only their owner reads, handed on by environment."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

from deployments.stack.stack import Stack, StackError, auth_file, auth_string, pgpass_file

USER = "fedloom"


def ensure_auth(home: Path) -> None:
    """A password for Prefect's API and MLflow, made once for each home."""
    if not auth_file(home).exists():
        write_secret(auth_file(home), f"{USER}:{secrets.token_urlsafe(24)}\n")


def authorization(stack: Stack) -> dict[str, str]:
    """The header that Prefect's API and MLflow want; empty when the stack has no password."""
    if not stack.auth:
        return {}
    token = base64.b64encode(auth_string(stack.home).encode()).decode()
    return {"Authorization": f"Basic {token}"}


def remember_database_password(home: Path, *, host: str, port: str, user: str, word: str) -> None:
    """Keep the password of a PostgreSQL server where its drivers look for it.

    https://www.postgresql.org/docs/current/libpq-pgpass.html
    """
    fields = (host, port, "*", user, word)
    quoted = (field.replace("\\", "\\\\").replace(":", "\\:") for field in fields)
    write_secret(pgpass_file(home), ":".join(quoted) + "\n")


def write_secret(path: Path, text: str) -> None:
    """A file that only its owner reads, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    part.replace(path)


def refuse_readable(path: Path) -> None:
    """Raises StackError when others may read a secret's file."""
    if path.exists() and path.stat().st_mode & 0o077:
        raise StackError(f"{path} can be read by others. It holds a secret: chmod 600 {path}")
