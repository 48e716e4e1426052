"""A party's own record of what it decided: append-only JSON lines, each bound to the one before.

A line that is changed, removed, inserted or moved is found by :meth:`AuditLog.verify`. Lines cut
from the end, or a whole log written anew, are found only against a head that somebody noted
elsewhere (Schneier and Kelsey, Secure Audit Logs to Support Computer Forensics, ACM TISSEC 1999,
section 2, say why nothing in the file itself can do better).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedcore.digests import digest_bytes
from fedcore.sites.audit_entry import GENESIS, Entry, Flat, LogBroken, make_entry, parsed

_BLOCK = 65_536


@dataclass(frozen=True)
class Verified:
    """A log that holds together.

    Attributes:
      count: entries.
      head: digest of the last one; what an administrator notes down elsewhere.
      torn: bytes of an unfinished last line; the next entry moves them to a file beside the log.
    """

    count: int
    head: str
    torn: int = 0


@dataclass(frozen=True)
class Cursor:
    """How far a log has been read: bytes, entries and the digest of the last one."""

    offset: int = 0
    count: int = 0
    head: str = GENESIS


START = Cursor()


def utc_now() -> datetime:
    """The time of this machine's clock."""
    return datetime.now(UTC)


class AuditLog:
    """The log in one file, written by any number of processes of its owner.

    Attributes:
      path: of the file.
      clock: what entries are dated by.

    >>> log = AuditLog(getfixture("tmp_path") / "log.jsonl")
    >>> log.append("paused", reason="by_hand").seq
    1
    >>> log.verify().count
    1
    """

    def __init__(self, path: str | Path, *, clock: Callable[[], datetime] = utc_now) -> None:
        self.path = Path(path)
        self.clock = clock

    def append(
        self,
        action: str,
        *,
        run: str = "",
        subject: str = "",
        reason: str = "",
        details: Mapping[str, Flat] | None = None,
    ) -> Entry:
        """Adds one entry; it is on the disk when this returns. Arguments as in :class:`Entry`.

        Raises:
          ValueError: a text is too long, or ``details`` are not small flat JSON.
          LogBroken: the last line is not one that was written; nothing is added to it.
          OSError: the file cannot be written; nothing was added.
        """
        with self.writing() as writer:
            return writer.append(action, run=run, subject=subject, reason=reason, details=details)

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """The log while no other process or thread can add to it: look first, then append."""
        is_new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
            if is_new:
                sync_folder(self.path.parent)
            writer = Writer(self.path, file, self.clock)
            writer.mend()
            yield writer
        finally:
            os.close(file)

    def entries(self) -> Iterator[Entry]:
        """All entries, each checked against the one before; raises as :meth:`verify` does."""
        for entry, _ in self.since(START):
            yield entry

    def since(self, cursor: Cursor) -> Iterator[tuple[Entry, Cursor]]:
        """Entries after a cursor, each with the cursor behind it; raises as :meth:`verify` does."""
        if not self.path.exists():
            if cursor != START:
                raise LogBroken(f"{self.path} is gone, with {cursor.count} entries that were read.")
            return
        with open(self.path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < cursor.offset:
                raise LogBroken(
                    f"{self.path} is shorter than it was: lines up to {cursor.count} were removed."
                )
            file.seek(cursor.offset)
            for line in file:
                is_last = cursor.offset + len(line) == size
                if is_last and _is_torn(line):
                    return
                entry = self._followed(line, cursor)
                cursor = Cursor(cursor.offset + len(line), entry.seq, entry.digest)
                yield entry, cursor

    def verify(self, head: str | None = None) -> Verified:
        """Every line in its place and unchanged.

        Args:
          head: digest that was noted down earlier; it must be of one of the lines, or the log was
            cut or written anew since.

        Raises:
          LogBroken: names the first line that is wrong, and how.
        """
        size = self.path.stat().st_size if self.path.exists() else 0
        cursor, is_known = START, head in (None, GENESIS)
        for _, cursor in self.since(START):
            is_known = is_known or cursor.head == head
        if not is_known:
            raise LogBroken(
                f"{self.path}: none of its {cursor.count} entries has the noted digest {head}: it "
                "was cut off at the end or written anew. Compare it with a copy."
            )
        return Verified(cursor.count, cursor.head, max(0, size - cursor.offset))

    def head(self) -> str:
        """Digest of the last entry; 64 zeros for an empty log. Checks only that entry."""
        if not self.path.exists():
            return GENESIS
        with open(self.path, "rb") as file:
            return _last(self.path, file.fileno())[1]

    def _followed(self, line: bytes, cursor: Cursor) -> Entry:
        """The entry in a line that stands where ``cursor`` ends."""
        number = cursor.count + 1
        entry = parsed(line)
        where = f"{self.path}, line {number}"
        if entry is None:
            raise LogBroken(f"{where}: changed: it is not an entry as it was written.")
        if entry.seq == number:
            if entry.previous != cursor.head:
                raise LogBroken(
                    f"{where}: changed or inserted: this line or the one before was replaced, "
                    "since it does not name the digest of the one before."
                )
            return entry
        others = {one.seq for one in self._readable()}
        if entry.seq < number:
            raise LogBroken(f"{where}: inserted: entry {entry.seq} stands a second time.")
        if number in others:
            raise LogBroken(f"{where}: reordered: entry {entry.seq} stands before {number}.")
        raise LogBroken(f"{where}: removed: entry {number} is missing; here is {entry.seq}.")

    def _readable(self) -> Iterator[Entry]:
        with open(self.path, "rb") as file:
            yield from (one for one in map(parsed, file) if one is not None)


class Writer:
    """Adds entries while it holds the lock; made by :meth:`AuditLog.writing`."""

    def __init__(self, path: Path, file: int, clock: Callable[[], datetime]) -> None:
        self._path, self._file, self._clock = path, file, clock

    def append(
        self,
        action: str,
        *,
        run: str = "",
        subject: str = "",
        reason: str = "",
        details: Mapping[str, Flat] | None = None,
    ) -> Entry:
        """As :meth:`AuditLog.append`."""
        count, head = _last(self._path, self._file)
        ts = self._clock().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry = make_entry(count + 1, ts, head, action, run, subject, reason, details or {})
        line = entry.line
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) < len(line):
                raise OSError(f"{self._path}: the disk is full; free space and go on.")
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, size)
            raise
        return entry

    def mend(self) -> None:
        """Puts aside what a power cut left of a last line, and says so in an entry."""
        size = os.fstat(self._file).st_size
        start = _last_line_start(self._file, size)
        rest = os.pread(self._file, size - start, start)
        if not rest or not _is_torn(rest):
            return
        if parsed(rest + b"\n") is not None:  # whole but for its end: it stays an entry
            os.write(self._file, b"\n")
            os.fsync(self._file)
            return
        aside = self._path.with_name(f"{self._path.name}.torn-{digest_bytes(rest)[:12]}")
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as kept:
            kept.write(rest)
            kept.flush()
            os.fsync(kept.fileno())
        sync_folder(self._path.parent)
        os.ftruncate(self._file, start)
        self.append("mended", reason="torn_line", details={"bytes": len(rest), "kept": aside.name})


def _is_torn(line: bytes) -> bool:
    """Whether a power cut left a last line so: without its end, or with blocks never written."""
    return not line.endswith(b"\n") or b"\0" in line


def _last(path: Path, file: int) -> tuple[int, str]:
    """(number, digest) of the last finished entry."""
    size = os.fstat(file).st_size
    start = _last_line_start(file, size)
    line = os.pread(file, size - start, start)
    if line and _is_torn(line):  # a reader sees a line that is being written
        size, start = start, _last_line_start(file, start)
        line = os.pread(file, size - start, start)
    if not line:
        return 0, GENESIS
    entry = parsed(line)
    if entry is None:
        raise LogBroken(
            f"{path}: changed: its last line is not an entry as it was written. Nothing is added; "
            "`fedloom site log verify` (of a coordinator: `sites`) says more. Put the file aside "
            "and put back a copy."
        )
    return entry.seq, entry.digest


def _last_line_start(file: int, size: int) -> int:
    """Offset of the line that ends at ``size``, with or without its end of line."""
    end = size - 1  # the last byte may be this line's own end
    while end > 0:
        start = max(0, end - _BLOCK)
        at = os.pread(file, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def sync_folder(folder: Path) -> None:
    """Makes new names in a folder last through a power cut."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
