"""A home from a backup, every file checked against its manifest before it counts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from deployments.care.backup import FORMAT, MANIFEST, Entry, Manifest
from deployments.stack.stack import Stack, StackError, write_stack

CHUNK = 1 << 20


def restore(source: Path, home: Path, *, tell: Callable[[str], None] = print) -> Manifest:
    """Fill an empty ``home`` from a backup; nothing is left there when a file is not right.

    Raises:
      StackError: the home is not empty, or the file is no whole backup.
    """
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise StackError(
            f"{home} is not empty. A backup is restored into a new home: --home, or FEDLOOM_HOME."
        )
    part = home.with_name(f"{home.name}.restoring")
    if part.exists():
        raise StackError(
            f"{part} is left from a restore that was cut off. Remove it, then begin again."
        )
    part.mkdir(parents=True)
    try:
        tell(f"Reading {source}")
        manifest = _extract(source, part)
        _make_stack(manifest, home, part)
        if home.exists():
            home.rmdir()
        part.rename(home)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise StackError(f"{source} cannot be read as a backup: {error}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return manifest


def _extract(source: Path, part: Path) -> Manifest:
    found: dict[str, Entry] = {}
    said = b""
    with tarfile.open(source, mode="r|gz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            if file is None:
                raise StackError(
                    f"{source} holds {member.name!r}, which is no plain file; it is not one of "
                    "ours and was not restored."
                )
            if member.name == MANIFEST:
                said = file.read()
                continue
            path = part / safe_name(source, member.name)
            if member.name in found:
                raise StackError(f"{source} holds {member.name!r} twice; it was not restored.")
            path.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as target:
                while data := file.read(CHUNK):
                    digest.update(data)
                    target.write(data)
            found[member.name] = Entry(member.name, member.size, digest.hexdigest())
    return _checked(source, said, found)


def safe_name(source: Path, name: str) -> PurePosixPath:
    """The name, when it stays below the folder that it is restored into.

    Raises:
      StackError: it does not.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name or "\0" in name:
        raise StackError(
            f"{source} holds {name!r}, which lies outside of a home; it is not one of ours and was "
            "not restored."
        )
    return path


def _checked(source: Path, said: bytes, found: dict[str, Entry]) -> Manifest:
    if not said:
        raise StackError(f"{source} has no manifest: the backup was cut off, or is none of ours.")
    try:
        value = json.loads(said)
        files = tuple(Entry(**entry) for entry in value.pop("files"))
        manifest = Manifest(**value, files=files)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StackError(f"The manifest of {source} cannot be read ({error!r}).") from error
    if manifest.format != FORMAT:
        raise StackError(
            f"{source} has format {manifest.format}, this release reads {FORMAT}; it was made by "
            f"Fedloom {manifest.release}. Restore it with that release."
        )
    listed = {entry.name: entry for entry in manifest.files}
    for name in sorted(listed.keys() | found.keys()):
        if listed.get(name) != found.get(name):
            how = "missing" if name not in found else "other than its manifest says"
            raise StackError(f"{name} in {source} is {how}; nothing was restored.")
    return manifest


def _make_stack(manifest: Manifest, home: Path, part: Path) -> None:
    """As if it had been down: the same ports if they are free, so that old links stay good."""
    options = manifest.options
    if not options:
        return
    stack = Stack(
        home,
        int(str(options["prefect_port"])),
        int(str(options["mlflow_port"])),
        database=manifest.database,
        auth=bool(options["auth"]),
        public_url=str(options["public_url"]),
    )
    write_stack(stack, part)
