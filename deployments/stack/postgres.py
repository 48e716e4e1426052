"""PostgreSQL for a stack: a cluster of its own under the home, and databases on any server.

The programs are Debian's (or any on the path); the cluster is this stack's alone, listens on
loopback only and wants a password. https://www.postgresql.org/docs/current/
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.stack.credentials import remember_database_password, write_secret
from deployments.stack.database import URL_VARIABLE, USER, database_names, server_url
from deployments.stack.stack import LOOPBACK, POSTGRES, Stack, StackError, pgpass_file

if TYPE_CHECKING:
    from psycopg import Connection

DEBIAN = "apt-get install --no-install-recommends postgresql"
DEBIAN_BIN = Path("/usr/lib/postgresql")
# Whom the server runs as when we are root, which PostgreSQL refuses to be.
UNPRIVILEGED = ("postgres", "nobody")
PATIENCE_SECONDS = 5


def cluster_folder(home: Path) -> Path:
    """All of the cluster; belongs to the user that the server runs as."""
    return home / "postgres"


def data_folder(home: Path) -> Path:
    """What PostgreSQL calls its data directory."""
    return cluster_folder(home) / "data"


def find_programs(home: Path) -> Path:
    """The folder of ``initdb``, ``postgres``, ``pg_dump``: of the release that made the cluster,
    else the newest.

    Raises:
      StackError: PostgreSQL, or that release of it, is not installed.
    """
    version_file = data_folder(home) / "PG_VERSION"
    made_by = version_file.read_text().strip() if version_file.exists() else ""
    found = {
        folder.parent.name: folder
        for folder in DEBIAN_BIN.glob("*/bin")
        if (folder / "initdb").exists()
    }
    if made_by in found:
        return found[made_by]
    on_path = shutil.which("initdb")
    if made_by:
        if on_path and _major(Path(on_path)) == made_by:
            return Path(on_path).parent
        raise StackError(
            f"The cluster in {data_folder(home)} was made by PostgreSQL {made_by}, which is not "
            f"installed (found: {', '.join(sorted(found)) or 'none'}). Install that release "
            f"(Debian: {DEBIAN}-{made_by}), or restore a backup into a new home."
        )
    if found:
        return found[max(found, key=int)]
    if on_path:
        return Path(on_path).parent
    raise StackError(
        f"PostgreSQL is not installed. Debian: {DEBIAN} (its own cluster is not used and need not "
        f"run). Or name an existing server: {URL_VARIABLE}=postgresql://USER:PASSWORD@HOST:PORT/"
        "fedloom. Or stay with --db sqlite."
    )


def server_user() -> str:
    """Whom the server runs as: empty for whoever we are, a user without rights when that is root.

    Raises:
      StackError: there is no such user.
    """
    import pwd

    if os.geteuid() != 0:
        return ""
    for name in UNPRIVILEGED:
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise StackError(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(UNPRIVILEGED)}. "
        "Run Fedloom as an ordinary user."
    )


def server_command(stack: Stack) -> tuple[str, ...]:
    """The server of the cluster, without our environment, which may hold secrets."""
    data = data_folder(stack.home)
    settings = {
        "listen_addresses": LOOPBACK,
        "port": str(stack.postgres_port),
        "unix_socket_directories": "",
        "max_connections": "200",
    }
    return (
        *("/usr/bin/env", "-i", "LANG=C.UTF-8", "PATH=/usr/bin:/bin"),
        *(str(find_programs(stack.home) / "postgres"), "-D", str(data)),
        *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
    )


def ensure_cluster(stack: Stack) -> None:
    """The cluster of this home, made when there is none, with a new password.

    Raises:
      StackError: it cannot be made, or its folder is out of the server's reach.
    """
    folder, data, user = cluster_folder(stack.home), data_folder(stack.home), server_user()
    programs = find_programs(stack.home)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if user:
        shutil.chown(folder, user, _group(user))
        _refuse_out_of_reach(folder, user)
    if not data.exists():
        _initialise(programs, stack.home, user)
    elif not pgpass_file(stack.home).exists():
        raise StackError(
            f"The password of the cluster in {data} is lost: {pgpass_file(stack.home)} is gone. "
            "Restore a backup into a new home."
        )


def create_databases(stack: Stack, *, seconds: float = 60) -> list[str]:
    """The databases that are missing on the stack's server; those of a restored backup with what
    they held. Returns their names.

    Raises:
      StackError: the server does not answer or does not let us.
    """
    import psycopg
    from psycopg import sql

    made = []
    try:
        with _maintenance(stack, seconds) as connection:
            there = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
            for use, name in database_names(stack).items():
                if name in there:
                    continue
                dump = dump_file(stack.home, use)
                # Under its own name only once it is complete.
                first = f"{name}_part" if dump.exists() else name
                drop = sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(first))
                connection.execute(drop)
                create = sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0")
                connection.execute(create.format(sql.Identifier(first)))
                if dump.exists():
                    load_dump(stack, first, dump)
                    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
                    names = (sql.Identifier(first), sql.Identifier(name))
                    connection.execute(rename.format(*names))
                    dump.unlink()
                    with suppress(OSError):
                        dump.parent.rmdir()  # once it is empty
                made.append(name)
    except psycopg.Error as error:
        names = " ".join(database_names(stack).values())
        raise StackError(
            f"The databases cannot be made on {_shown(stack)}: {' '.join(str(error).split())}. "
            f"Its administrator can: createdb --owner USER for each of {names}"
        ) from error
    return made


def postgres_answers(stack: Stack) -> bool:
    """The server of the stack takes connections."""
    import psycopg

    try:
        with _connect(stack):
            return True
    except psycopg.Error:
        return False


def dump_file(home: Path, use: str) -> Path:
    """What a restored backup held of a database, until `up` has loaded it."""
    return home / "dumps" / f"{use}.dump"


def dump_database(stack: Stack, use: str, target: Path) -> None:
    """A consistent copy of a database, in pg_dump's own format.

    Raises:
      StackError: pg_dump is missing or fails.
    """
    url = _libpq_url(stack, database_names(stack)[use])
    words = ["pg_dump", "--format=custom", "--no-owner", "--file", str(target), url]
    _run_client(stack, words, f"The database {database_names(stack)[use]} cannot be copied")


def load_dump(stack: Stack, database: str, dump: Path) -> None:
    """Fill an empty database from a copy.

    Raises:
      StackError: pg_restore is missing or fails.
    """
    url = _libpq_url(stack, database)
    words = ["pg_restore", "--no-owner", "--exit-on-error", "--dbname", url, str(dump)]
    _run_client(stack, words, f"{dump} cannot be loaded")


def _initialise(programs: Path, home: Path, user: str) -> None:
    # In a folder of another name until all is there: whoever is killed here begins again.
    folder, word = cluster_folder(home), secrets.token_urlsafe(24)
    part, password = folder / "data.part", folder / "password"
    shutil.rmtree(part, ignore_errors=True)
    write_secret(password, word + "\n")
    if user:
        shutil.chown(password, user)
    words = [
        *(str(programs / "initdb"), "-D", str(part), "-U", USER, f"--pwfile={password}"),
        *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"),
    ]
    try:
        done = _as_user(words, folder, user)
    finally:
        password.unlink(missing_ok=True)
    if done.returncode:
        raise StackError(
            f"initdb made no cluster in {folder}: {(done.stdout + done.stderr).strip()[-1500:]}"
        )
    remember_database_password(home, host=LOOPBACK, port="*", user=USER, word=word)
    part.rename(data_folder(home))


def _as_user(words: list[str], folder: Path, user: str) -> subprocess.CompletedProcess[str]:
    whom: dict[str, Any] = {"user": user, "group": _group(user), "extra_groups": ()} if user else {}
    return subprocess.run(
        words,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        **whom,
    )


def _group(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def _refuse_out_of_reach(folder: Path, user: str) -> None:
    closed = next(
        (
            parent
            for parent in reversed(folder.parents)
            if _as_user(["/usr/bin/test", "-x", str(parent)], Path("/"), user).returncode
        ),
        None,
    )
    if closed:
        raise StackError(
            f"PostgreSQL does not run as root but as {user!r}, who cannot pass through {closed}. "
            f"Let it (chmod o+x {closed}), take a FEDLOOM_HOME elsewhere, or run Fedloom as an "
            "ordinary user."
        )


def _run_client(stack: Stack, words: list[str], failed: str) -> None:
    """A client program of PostgreSQL; the URL in its words holds no password."""
    programs = find_programs(stack.home)
    try:
        done = subprocess.run(
            [str(programs / words[0]), *words[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    except OSError as error:
        raise StackError(f"{failed}: {programs / words[0]}: {error.strerror}.") from error
    if done.returncode:
        raise StackError(f"{failed}: {(done.stdout + done.stderr).strip()[-1500:]}")


def _libpq_url(stack: Stack, database: str) -> str:
    return server_url(stack).set(database=database).render_as_string(hide_password=False)


def _maintenance(stack: Stack, seconds: float) -> Connection[Any]:
    import psycopg

    end = time.monotonic() + seconds
    while True:
        try:
            return _connect(stack)
        except psycopg.OperationalError:
            # Of a cluster of our own the server is on its way.
            if stack.database != POSTGRES or time.monotonic() > end:
                raise
            time.sleep(0.2)


def _connect(stack: Stack) -> Connection[Any]:
    import psycopg

    url = _libpq_url(stack, "postgres")
    return psycopg.connect(url, autocommit=True, connect_timeout=PATIENCE_SECONDS)


def _shown(stack: Stack) -> str:
    return server_url(stack).set(query={}).render_as_string()


def _major(program: Path) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    return done.stdout.split()[-1].split(".")[0] if done.returncode == 0 else ""
