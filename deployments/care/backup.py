"""A consistent copy of a home while its stack runs, in one file.

What is written first is copied last, so that nothing in the copy points at what is not in it:
databases of who may know of a run, then its chain, then the blobs that chains name. A run that was
under way goes on from the copy as after a power cut.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from deployments.stack.database import database_names
from deployments.stack.stack import SQLITE, Stack, StackError

MANIFEST = "manifest.json"
FORMAT = 1
SQLITE_MAGIC = b"SQLite format 3\0"

# Of a process that runs here, made again by the next one, or secret.
LEFT_OUT_FOLDERS = {"cache", "secrets", "postgres", "dumps", "proxy"}
LEFT_OUT_FILES = {"stack.json", "stack.lock", "supervisord.conf", "supervisord.pid", "deployed"}
LEFT_OUT_ENDINGS = (".sock", ".pid", ".lock", ".part", "-wal", "-shm", "-journal")
TEMPORARY = ".tmp-"

# First whatever knows of others, last what others name.
ORDER = ("prefect/", "mlflow/mlflow.db", "store/runs/", "store/memo/", "", "mlflow/", "store/")
ORDERED = {"prefect", "mlflow", "store"}


@dataclass(frozen=True)
class Entry:
    """A file of a backup: name in the home, bytes, SHA-256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a backup holds.

    Attributes:
      format: of the file.
      made: seconds since the epoch.
      release: of Fedloom.
      database: ``sqlite`` or ``postgres``: what a stack of the restored home keeps its tables in.
      options: of the stack: auth, public_url, ports.
      files: every file but this one.
    """

    format: int
    made: float
    release: str
    database: str
    options: dict[str, object]
    files: tuple[Entry, ...]


def back_up(
    home: Path, target: Path, stack: Stack | None, *, tell: Callable[[str], None] = print
) -> Manifest:
    """Write a backup of ``home`` to ``target`` (.tar.gz, for its owner only).

    Args:
      stack: of the home as it was last started; with PostgreSQL it must run.

    Raises:
      StackError: there is nothing to copy, the target is there already, or a database cannot be
        copied.
    """
    from importlib.metadata import version

    if not home.is_dir():
        raise StackError(f"{home} is no folder: nothing to back up. Set FEDLOOM_HOME.")
    if target.exists():
        raise StackError(f"{target} is there already. Name another file.")
    part = target.with_name(f"{target.name}.part")
    entries: list[Entry] = []
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with (
            open(descriptor, "wb") as file,
            tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive,
            tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as scratch,
        ):
            if stack is not None and stack.database != SQLITE:
                tell("Copying the databases")
                entries += _add_dumps(archive, stack, Path(scratch))
            tell("Copying the files")
            entries += _add_files(archive, home, Path(scratch), skip={part, target})
            manifest = Manifest(
                FORMAT,
                time.time(),
                version("fedloom"),
                "sqlite" if stack is None or stack.database == SQLITE else "postgres",
                _options(stack),
                tuple(entries),
            )
            data = json.dumps(asdict(manifest), indent=1).encode()
            _add(archive, MANIFEST, io.BytesIO(data), len(data))
        part.replace(target)
    except OSError as error:
        raise StackError(f"{target} cannot be written: {error}.") from error
    finally:
        part.unlink(missing_ok=True)
    return manifest


def files_in_order(home: Path) -> Iterator[Path]:
    """Files of a home that belong in a backup; each kind is looked up when its turn has come."""
    seen: set[Path] = set()
    for start in ORDER:
        found = [path for path in _walk(home, start) if path not in seen]
        if start == "store/runs/":
            found = _whole_chains(found)
        seen.update(found)
        yield from sorted(found)


def _walk(home: Path, start: str) -> Iterator[Path]:
    if (home / start).is_file():
        yield home / start
    for folder, folders, names in os.walk(home / start):
        if Path(folder) == home:
            folders[:] = [name for name in folders if name not in LEFT_OUT_FOLDERS | ORDERED]
            names = [name for name in names if name not in LEFT_OUT_FILES]
        for name in names:
            path = Path(folder) / name
            is_left_out = name.endswith(LEFT_OUT_ENDINGS) or TEMPORARY in name
            if not is_left_out and stat.S_ISREG(_mode(path)):
                yield path


def _whole_chains(found: list[Path]) -> list[Path]:
    """With each round also those before it, which a listing of a growing folder may have missed."""
    wanted = set(found)
    for path in found:
        if path.parent.name == "rounds" and path.stem.isdigit():
            earlier = (path.with_name(f"{n:06d}.json") for n in range(1, int(path.stem)))
            wanted.update(one for one in earlier if one.exists())
    return list(wanted)


def _add_files(
    archive: tarfile.TarFile, home: Path, scratch: Path, skip: set[Path]
) -> Iterator[Entry]:
    for path in files_in_order(home):
        if path in skip or scratch in path.parents:
            continue
        name = path.relative_to(home).as_posix()
        try:
            if _is_sqlite(path):
                copy = scratch / "copy.db"
                copy_sqlite(path, copy)
                with copy.open("rb") as file:
                    yield _add(archive, name, file, copy.stat().st_size)
                copy.unlink()
            else:
                with path.open("rb") as file:
                    yield _add(archive, name, file, os.fstat(file.fileno()).st_size)
        except FileNotFoundError:
            continue  # a client update that the run has just dropped


def _add_dumps(archive: tarfile.TarFile, stack: Stack, scratch: Path) -> Iterator[Entry]:
    from deployments.stack.postgres import dump_database

    for use in database_names(stack):
        copy = scratch / f"{use}.dump"
        dump_database(stack, use, copy)
        with copy.open("rb") as file:
            yield _add(archive, f"dumps/{use}.dump", file, copy.stat().st_size)
        copy.unlink()


def copy_sqlite(source: Path, target: Path) -> None:
    """A consistent copy of a database that others write to.

    https://www.sqlite.org/backup.html

    Raises:
      StackError: it is damaged or locked for long.
    """
    try:
        with (
            closing(sqlite3.connect(f"{source.as_uri()}?mode=rw", uri=True, timeout=60)) as here,
            closing(sqlite3.connect(target)) as there,
        ):
            # In one step: with pauses in between a busy writer would make it begin again and again.
            here.backup(there)
            # The copy of a database in WAL mode needs no files beside it.
            there.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise StackError(f"{source} cannot be copied: {error}.") from error


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC


class _Hashing:
    """A file that is hashed while it is read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.left, self.sha256 = file, size, hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        # Logs and event files grow meanwhile: what was there at first is the copy.
        data = self.file.read(self.left if count < 0 else min(count, self.left))
        self.left -= len(data)
        self.sha256.update(data)
        return data


def _add(archive: tarfile.TarFile, name: str, file: BinaryIO, size: int) -> Entry:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o600, int(time.time())
    hashing = _Hashing(file, size)
    archive.addfile(info, hashing)  # type: ignore[arg-type]
    return Entry(name, size, hashing.sha256.hexdigest())


def _options(stack: Stack | None) -> dict[str, object]:
    if stack is None:
        return {}
    return {
        "prefect_port": stack.prefect_port,
        "mlflow_port": stack.mlflow_port,
        "auth": stack.auth,
        "public_url": stack.public_url,
    }


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0
