"""Fetching one published file so that a half-written one is never seen under its name."""

from __future__ import annotations

import os
import shutil
import tempfile
import urllib.request
from contextlib import suppress
from pathlib import Path

from fedcore.data.checksum import ChecksumMismatch, checksum_of, kind_of

TIMEOUT_SECONDS = 30


class DataNotFound(ValueError):
    """A file of a data set is neither in the folders searched nor reachable."""


def download(url: str, target: Path, checksum: str) -> Path:
    """The file behind ``url``, written to ``target`` after its checksum was found right.

    It arrives under a temporary name in the same folder and is renamed when complete, so that an
    interrupted transfer, a full disk or a second process leave nothing half-written. Folders made
    for a file that did not come are removed again.

    Raises:
      DataNotFound: the server cannot be reached or refuses, or the folder cannot be written; says
        why, the caller knows the way out.
      ChecksumMismatch: what arrived is not the published file; nothing is kept.
    """
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"url={url!r}: only http and https addresses are fetched.")
    made = [folder for folder in target.parents if not os.path.exists(folder)]
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        except OSError as error:
            raise DataNotFound(
                f"{target.parent} cannot be written ({error}), so {url} was not fetched."
            ) from error
        _fetch(url, handle, Path(name), target, checksum)
    except BaseException:
        for folder in made:  # the innermost first
            with suppress(OSError):  # another process has put something there
                folder.rmdir()
        raise
    return target


def _fetch(url: str, handle: int, partial: Path, target: Path, checksum: str) -> None:
    """Into ``partial``, which becomes ``target`` or is removed."""
    try:
        with os.fdopen(handle, "wb") as file:
            try:
                with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
                    shutil.copyfileobj(response, file)
            except OSError as error:
                raise DataNotFound(f"{url} could not be fetched ({error}).") from error
            file.flush()
            os.fsync(file.fileno())
        kind = kind_of(checksum)
        actual = checksum_of(partial, kind)
        if actual != checksum.lower():
            raise ChecksumMismatch(
                f"{url} sent a file with {kind} {actual}, but its source publishes "
                f"{checksum.lower()}; nothing was kept. Try again, or put the official file at "
                f"{target}."
            )
        partial.chmod(0o644)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
