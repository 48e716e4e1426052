"""Where published files are looked for, and what is said when they are not there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fedcore.data.checksum import kind_of
from fedcore.data.download import DataNotFound, download

CACHE = "~/.cache/fedloom"


def search_folders(
    folder: Path | None, name: str, *, cache: str | None = None, others: Sequence[str] = ()
) -> list[Path]:
    """Folders searched for a data set, in order: ``folder/name``, its cache, then the others.

    Args:
      folder: the root of data sets (what FEDLOOM_DATA names), or None.
      name: the data set's subfolder.
      cache: the user's folder of such files; ``~/.cache/fedloom/name`` unless given.
      others: folders where an operating system may have installed the files.
    """
    first = [] if folder is None else [Path(folder) / name]
    rest = [Path(cache or f"{CACHE}/{name}"), *(Path(other) for other in others)]
    return [path.expanduser() for path in first + rest]


def find_file(names: Sequence[str], folders: Sequence[Path]) -> Path | None:
    """The first existing file of these names, looking through the folders in order."""
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    return None


def find_or_download(
    names: Sequence[str],
    folders: Sequence[Path],
    *,
    url: str,
    checksum: str,
    may_download: bool,
    instead: str = "",
) -> Path:
    """The local file, or the one fetched from ``url`` into the first folder that can be written.

    Args:
      names: accepted file names; the first is the published one.
      folders: as ``search_folders`` gives them.
      url: where the source publishes the file.
      checksum: as published, MD5 or SHA-256; a file found locally is checked by the caller.
      may_download: False keeps this process off the network.
      instead: another file that the caller looks for first, for the message.

    Raises:
      DataNotFound: names the folders searched and how to get the file.
      ChecksumMismatch: see ``download``.
    """
    found = find_file(names, folders)
    if found is not None:
        return found
    searched = ", ".join(str(path) for path in folders)
    where = f"{' or '.join(names)} was not found in {searched}"
    way_out = (
        f"({kind_of(checksum)} {checksum}){f', or {instead},' if instead else ''} and put it into "
        "one of these folders; FEDLOOM_DATA names the folder that holds all data sets."
    )
    if not may_download:
        raise DataNotFound(f"{where}, and download=False. Get {url} {way_out}")
    target = next((path for path in folders if _is_writable(path)), None)
    if target is None:
        raise DataNotFound(f"{where}, and none of them can be written. Get {url} {way_out}")
    try:
        return download(url, target / names[0], checksum)
    except DataNotFound as error:
        raise DataNotFound(
            f"{where}, and {error} Get it where there is a network {way_out}"
        ) from error


def user_path(path: str, folder: Path | None) -> Path:
    """The user's file or folder: absolute, or relative to the root of data sets.

    Raises:
      DataNotFound: relative without a root, or nothing is there.
    """
    given = Path(path).expanduser()
    if not given.is_absolute():
        if folder is None:
            raise DataNotFound(
                f"path={path!r} is relative, and FEDLOOM_DATA is not set. Write the full path, or "
                "set FEDLOOM_DATA to the folder it starts from."
            )
        given = Path(folder).expanduser() / given
    if not given.exists():
        raise DataNotFound(
            f"path={path!r}: there is nothing at {given}. Check the path's spelling."
        )
    return given


def _is_writable(folder: Path) -> bool:
    """Whether a file could be put there, its missing parents made first."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)
