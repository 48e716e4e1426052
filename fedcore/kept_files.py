"""Files that only save time: written whole or not at all, and missed by nobody."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path


def keep(path: Path, content: bytes, what: str) -> None:
    """Write a file under another name first, so that no half-written one is ever read.

    Processes that write the same file at once do not disturb each other: the last one stays. Where
    it cannot be written there is a warning; only speed is lost.

    Args:
      what: the content in a word, for that warning.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        warnings.warn(f"{what} were not kept in {path.parent}: {error}", stacklevel=3)


def warn_of_damage(path: Path, what: str) -> None:
    """Say that a kept file is not what it was, and that the work is done again."""
    warnings.warn(f"cached {what} {path.name} are damaged; computed again", stacklevel=3)
