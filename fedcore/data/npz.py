"""Reading npz archives without ever unpickling."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def array_names(path: Path) -> list[str]:
    """Names of the arrays in the archive."""
    with _open(path) as archive:
        return list(archive.files)


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The named arrays.

    Raises:
      ValueError: not an npz archive, an array is not in it, is damaged, or holds Python objects.
    """
    arrays = {}
    with _open(path) as archive:
        for name in names:
            if name not in archive.files:
                raise ValueError(
                    f"{path} has no array {name!r}; it has {archive.files}. Correct the name."
                )
            try:
                arrays[name] = archive[name]
            except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
                raise ValueError(
                    f"{path}: array {name!r} cannot be read ({error}). Arrays of Python objects "
                    "are never unpickled: save numbers or fixed-width text."
                ) from error
    return arrays


def _open(path: Path) -> np.lib.npyio.NpzFile:
    try:
        archive = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a readable npz archive ({error}).") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError(f"{path} is one npy array, not an npz archive: use numpy.savez.")
    return archive
