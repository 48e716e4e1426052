"""Where a run's facts become events, and reach the log whatever happens to it.

Each event goes into a file of its own process before anything else, which outlives the process,
and from there in the background to the log. A log that is locked, full, damaged or down costs the
run nothing; what waits is delivered later, in order, by this process or by the next.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from fedcore.event_log import EventLog
from fedcore.events import Event, Fact, stamped

# About 100 MB of memory and 50 MB of file, when the log is away for long.
MAX_WAITING = 100_000
_BATCH = 500
_FIRST_PAUSE, _LAST_PAUSE = 1.0, 30.0


class EventSink:
    """One process's way to the log, for one run; ``tell`` never raises and never waits for it.

    >>> from fedcore.events import EventType, Fact
    >>> folder = getfixture('tmp_path')
    >>> log = EventLog(f"sqlite:///{folder}/events.db")
    >>> with EventSink(log, "run-1", folder / "spool", warn=print) as sink:
    ...     event = sink.tell(Fact(EventType.RUN_REQUESTED, "requested"))
    >>> log.history("run-1") == [event]
    True
    """

    def __init__(
        self,
        log: EventLog,
        run_id: str,
        spool: Path,
        *,
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
          spool: folder of events on their way; shared by all processes that write to this log.
          warn: told once when the log does not answer, and once when it does again.
          clock: seconds since 1970 UTC.
        """
        self._log, self._run_id, self._spool = log, run_id, spool
        self._warn, self._clock = warn, clock
        self._last, self._lost = "", 0
        self._waiting: deque[Event] = deque()
        self._changed = threading.Condition()
        self._is_closing = self._is_away = False
        self._file = self._opened()
        self._thread = threading.Thread(target=self._deliver, name="events", daemon=True)
        self._thread.start()

    def tell(self, fact: Fact) -> Event:
        """The fact as an event, which is on its way to the log."""
        with self._changed:
            ts = round(max(0.0, self._clock()), 6)
            event = stamped(fact, run_id=self._run_id, ts=ts, after=self._last)
            self._last = event.event_id
            if len(self._waiting) < MAX_WAITING:
                self._keep(event)
                self._waiting.append(event)
            else:
                self._lost += 1
            self._changed.notify_all()
        return event

    def flush(self, timeout_seconds: float) -> bool:
        """Waits until the log has everything; False when it did not in that time."""
        with self._changed:
            return (
                self._changed.wait_for(lambda: not self._waiting or self._is_away, timeout_seconds)
                and not self._waiting
            )

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Ends it. What the log did not take in that time stays in the spool for the next sink."""
        self.flush(timeout_seconds)
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join(timeout_seconds)
        with self._changed, suppress(OSError):
            if self._file is not None:
                if not self._waiting:
                    self._path.unlink(missing_ok=True)
                os.close(self._file)
                self._file = None

    def __enter__(self) -> EventSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opened(self) -> int | None:
        """This process's own file, locked while the process lives."""
        self._path = self._spool / f"{uuid.uuid4()}.jsonl"
        try:
            self._spool.mkdir(parents=True, exist_ok=True)
            while True:
                file = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.fstat(file).st_nlink:
                    return file
                os.close(file)  # somebody took it for a leftover before it was locked
        except OSError as error:
            self._warn(f"events wait in memory only: {self._path}: {error}")
            return None

    def _keep(self, event: Event) -> None:
        if self._file is None:
            return
        try:
            line = (json.dumps(event.to_json()) + "\n").encode()
            if os.write(self._file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._warn(f"events wait in memory only: {self._path}: {error}")
            os.close(self._file)  # what it holds is read when this process is gone
            self._file = None

    def _deliver(self) -> None:
        pause, has_looked = _FIRST_PAUSE, False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closing)
                if not self._waiting:
                    return
                batch = list(islice(self._waiting, _BATCH))
            try:
                if not has_looked:
                    deliver_leftovers(self._spool, self._log)
                    has_looked = True
                self._log.append(batch)
            except Exception as error:
                self._set_away(error)
                with self._changed:
                    if self._changed.wait_for(lambda: self._is_closing, pause):
                        return
                pause = min(2 * pause, _LAST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            self._delivered(len(batch))

    def _set_away(self, error: Exception) -> None:
        with self._changed:
            was_away, self._is_away = self._is_away, True
            self._changed.notify_all()
        if not was_away:
            self._warn(f"the run goes on; its events wait in {self._spool}: {error}")

    def _delivered(self, count: int) -> None:
        with self._changed:
            for _ in range(count):
                self._waiting.popleft()
            was_away, self._is_away = self._is_away, False
            lost, self._lost = self._lost, 0
            if not self._waiting and self._file is not None:
                with suppress(OSError):
                    os.ftruncate(self._file, 0)
            self._changed.notify_all()
        if was_away:
            more = f"; {lost} came when no more could be kept, and are lost" if lost else ""
            self._warn(f"the event log answers again{more}")


def deliver_leftovers(spool: Path, log: EventLog) -> int:
    """Brings to the log what processes that are gone could not; returns how many events.

    Several may do so at once. A line that was being written when its process died is no event.

    Raises:
      EventLogUnavailable: the log did not take them; they stay.
    """
    count = 0
    for path in sorted(spool.glob("*.jsonl"), key=_age) if spool.exists() else ():
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its process lives: not ours
            if not os.fstat(file.fileno()).st_nlink:
                continue
            events = list(_events(file.read()))
            for start in range(0, len(events), _BATCH):
                log.append(events[start : start + _BATCH])
            path.unlink()
            count += len(events)
    return count


def _age(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


def _events(data: bytes) -> Iterator[Event]:
    for line in data.splitlines():
        with suppress(ValueError):
            yield Event.from_json(json.loads(line))
