"""A content-addressed store of blobs on fsspec: written once, verified on every read."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from fedcore import object_store, tensors
from fedcore.digests import digest_bytes
from fedcore.refs import Ref

# These create an object only if it is absent, in one step of the backend; others are refused.
EXCLUSIVE_BACKENDS = {"file", "local", "memory", "s3", "s3a", "gs", "gcs"}


TEMPORARY = ".tmp-"


class BlobMissing(LookupError):
    """The store does not hold the blob."""


class BlobAltered(ValueError):
    """The blob's bytes are not those that its digest names."""


class AlreadyExists(FileExistsError):
    """An exclusive write found the name taken."""


class Store:
    """Blobs under their digests and small named files, on a local folder or any fsspec URL.

    Attributes:
      url: where it is, e.g. ``/var/lib/fedloom/store`` or ``s3://bucket/prefix``.

    Raises:
      ValueError: the backend cannot create a file exclusively, which the round chain needs; or the
        URL holds a password, which would be in logs and in every task's arguments.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)
        _refuse_password(self.url)
        self.fs, root = object_store.open_url(self.url)
        self.root = root.rstrip("/")
        protocols = {self.fs.protocol} if isinstance(self.fs.protocol, str) else {*self.fs.protocol}
        if not protocols & EXCLUSIVE_BACKENDS:
            raise ValueError(
                f"url={self.url!r}: backend {sorted(protocols)} has no exclusive create, which the "
                f"round chain needs; use a folder or one of {sorted(EXCLUSIVE_BACKENDS)}."
            )

    # -- blobs ---------------------------------------------------------------------------------

    def put(self, data: bytes, kind: str) -> Ref:
        """Keeps ``data`` under its digest; a blob that is already there intact is not rewritten."""
        ref = Ref(digest_bytes(data), len(data), kind)
        name = self._blob(ref.digest)
        if not self.holds(ref):
            self.write(name, data)
        elif isinstance(self.fs, LocalFileSystem):
            os.utime(f"{self.root}/{name}")  # young again, so that a collection leaves it alone
        return ref

    def get(self, ref: Ref) -> bytes:
        """The blob's bytes.

        Raises:
          BlobMissing: it is not in the store.
          BlobAltered: its bytes do not match its digest (truncated or changed).
        """
        try:
            data = self.read(self._blob(ref.digest))
        except FileNotFoundError as error:
            raise BlobMissing(f"{ref.kind} {ref.digest} is not in the store {self.url}.") from error
        if digest_bytes(data) != ref.digest:
            raise BlobAltered(
                f"{ref.kind} {ref.digest} in {self.url} has other bytes than its digest names "
                f"({len(data)} of {ref.size}); it is not used."
            )
        return data

    def holds(self, ref: Ref) -> bool:
        """Whether the blob is there with the right bytes."""
        try:
            self.get(ref)
        except (BlobMissing, BlobAltered):
            return False
        return True

    def put_arrays(self, arrays: tensors.Arrays, kind: str) -> Ref:
        """Keeps named arrays as one safetensors blob."""
        return self.put(tensors.encode(arrays), kind)

    def get_arrays(self, ref: Ref) -> dict[str, np.ndarray]:
        """The named arrays of a safetensors blob; raises as ``get`` does."""
        return tensors.decode(self.get(ref))

    def blobs(self) -> Iterator[tuple[str, int, float]]:
        """(digest, bytes, seconds since the epoch of its writing) of every blob."""
        for name, info in self._find("blobs"):
            yield name.rsplit("/", 1)[-1], int(info["size"]), _written(info)

    def discard(self, digest: str) -> None:
        """Removes a blob if it is there."""
        with suppress(FileNotFoundError):
            self.fs.rm_file(f"{self.root}/{self._blob(digest)}")

    def sweep(self, before: float) -> None:
        """Removes what writers that were killed before that time left behind, on a local folder."""
        if isinstance(self.fs, LocalFileSystem):
            for path in Path(self.root).rglob(f"{TEMPORARY}*"):
                if path.stat().st_mtime < before:
                    path.unlink(missing_ok=True)

    # -- named files ---------------------------------------------------------------------------

    def read(self, name: str) -> bytes:
        """The bytes of a named file; ``FileNotFoundError`` if there is none."""
        with object_store.explained("read", path := f"{self.root}/{name}"):
            return self.fs.cat_file(path)

    def read_start(self, name: str, count: int) -> bytes:
        """The first ``count`` bytes of a named file; ``FileNotFoundError`` if there is none.

        A link, a device or a pipe is no file: others may write to the folder, too.
        """
        path = f"{self.root}/{name}"
        if isinstance(self.fs, LocalFileSystem):
            return _read_local(path, count)
        return object_store.read_start(self.fs, path, count)

    def holds_name(self, name: str) -> bool:
        """Whether there is a named file that we may see; one request."""
        try:
            self.read_start(name, 1)
        except (FileNotFoundError, object_store.NameDenied):
            return False
        return True

    def is_inside(self, name: str) -> bool:
        """Whether no ``..`` and no link on the way leads from the name out of a folder."""
        if not isinstance(self.fs, LocalFileSystem):
            return True  # an object's name is not a path
        return os.path.realpath(f"{self.root}/{name}") == f"{os.path.realpath(self.root)}/{name}"

    def names(self, folder: str) -> list[str]:
        """Sorted names of the files anywhere under a folder, relative to the store."""
        return sorted(path for path, _ in self._find(folder))

    def written(self, folder: str) -> Iterator[tuple[str, float]]:
        """(name, seconds since the epoch of its writing) of the files anywhere under a folder."""
        for name, info in self._find(folder):
            yield name, _written(info)

    def write(self, name: str, data: bytes, *, exclusive: bool = False) -> None:
        """Writes a named file in one step: readers see all of it or nothing, also on a full disk.

        Raises:
          AlreadyExists: ``exclusive`` and the name is taken.
          StoreUnreachable, NameDenied: by an object store; see :mod:`fedcore.object_store`.
        """
        path = f"{self.root}/{name}"
        if isinstance(self.fs, LocalFileSystem):
            _write_local(Path(path), data, exclusive=exclusive)
            return
        try:
            object_store.write(self.fs, path, data, exclusive=exclusive)
        except FileExistsError as error:
            raise AlreadyExists(path) from error

    def remove(self, *names: str) -> None:
        """Removes named files if they are there."""
        paths = [f"{self.root}/{name}" for name in names]
        with object_store.explained("remove from", self.url):
            if len(paths) > 1 and not isinstance(self.fs, LocalFileSystem | MemoryFileSystem):
                self.fs.rm(paths)  # a thousand by each request
                return
            for path in paths:
                with suppress(FileNotFoundError):
                    self.fs.rm_file(path)

    def _blob(self, digest: str) -> str:
        return f"blobs/{digest[:2]}/{digest}"

    def _find(self, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
        self.fs.invalidate_cache()
        with object_store.explained("list", path := f"{self.root}/{folder}"):
            found = self.fs.find(path, detail=True)
        for path, info in found.items():
            name = path[len(self.root) :].lstrip("/") if path.startswith(self.root) else path
            if f"/{TEMPORARY}" not in f"/{name}":
                yield name, info


def _written(info: Mapping[str, Any]) -> float:
    modified = info.get("mtime") or info.get("created") or info.get("LastModified") or 0
    return modified.timestamp() if hasattr(modified, "timestamp") else float(modified)


def _refuse_password(url: str) -> None:
    scheme, _, rest = url.partition("://")
    user, at, place = rest.partition("/")[0].rpartition("@")
    if at and ":" in user:
        raise ValueError(
            f"the store's URL {scheme}://...@{place} holds a password, and URLs are shown. Give it "
            "by the backend's own means, e.g. AWS_SECRET_ACCESS_KEY or ~/.aws/credentials."
        )


def _read_local(path: str, count: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        # A link, a socket, a file where a folder should be.
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENOTDIR):
            raise FileNotFoundError(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(path)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(count)


def _write_local(path: Path, data: bytes, *, exclusive: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
    try:
        _write_whole(temporary, data)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(
            error.errno,
            f"{error.strerror}: {len(data)} bytes for {path.parent}. Free space or mend the folder "
            "and run again: what is finished is kept",
        ) from error
    try:
        if exclusive:
            try:
                os.link(temporary, path)
            except FileExistsError as error:
                raise AlreadyExists(str(path)) from error
        else:
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_whole(temporary: Path, data: bytes) -> None:
    with open(temporary, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
