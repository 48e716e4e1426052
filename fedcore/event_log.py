"""The log of events: append-only, in SQLite by default or in Postgres, read by run.

SQLite in WAL mode: several processes append and read at once. Every commit reaches the disk before
:meth:`EventLog.append` returns.
"""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from fedcore.events import FIELDS, Event, EventType
from fedcore.snapshot import Snapshot, advance

POLL_SECONDS = 0.5
_PAGE = 1000
# sqlite3's own comes from setting up a connection, where SQLAlchemy does not wrap it.
_TROUBLE = (SQLAlchemyError, sqlite3.Error, OSError)
# Appends wait for each other: what a reader has seen, nothing can still come in front of.
_POSTGRES_LOCK = 0x6665646C  # any number that is ours

# Not "events": Prefect has a table of that name, and a database may be shared.
_TABLE = sa.Table(
    "fedloom_events",
    sa.MetaData(),
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    sa.Column("event_id", sa.String(36), nullable=False, unique=True),
    sa.Column("ts", sa.Double, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("round", sa.BigInteger, nullable=False),
    sa.Column("node_id", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("latency_ms", sa.Double),
    sa.Column("payload_bytes", sa.BigInteger),
    sa.Column("metrics", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)
_BY_RUN = sa.Index("fedloom_events_by_run", _TABLE.c.run_id, _TABLE.c.seq)


class EventLogUnavailable(RuntimeError):
    """The log cannot be read or written now; the message says which and why."""


class EventLog:
    """All events of all runs.

    >>> from fedcore.events import EventType, Fact, stamped
    >>> log = EventLog(f"sqlite:///{getfixture('tmp_path')}/events.db")
    >>> fact = Fact(EventType.RUN_REQUESTED, "requested")
    >>> log.append([stamped(fact, run_id="r", ts=1700000000.0)])
    >>> [event.type.value for event in log.history("r")], log.snapshot("r").status
    (['run_requested'], 'running')
    """

    def __init__(self, url: str, *, patience_seconds: float = 30.0) -> None:
        """
        Args:
          url: ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/DATABASE``.
          patience_seconds: how long an append waits for other writers.

        Raises:
          ValueError: another kind of URL.
        """
        self._url = _parsed(url)
        self._patience = patience_seconds
        self._is_ready = False

    @property
    def where(self) -> str:
        """The URL without its password."""
        return self._url.render_as_string(hide_password=True)

    @property
    def path(self) -> Path | None:
        """The file of a SQLite log."""
        is_file = self._url.drivername == "sqlite" and self._url.database
        return Path(str(self._url.database)) if is_file else None

    def append(self, events: Iterable[Event]) -> None:
        """Adds events in this order; when it returns they are committed.

        One that the log has already (the same ``event_id``) is left as it is.

        Raises:
          EventLogUnavailable: the log did not take them.
        """
        rows = [_row(event) for event in events]
        if rows:
            self._committed(lambda connection: connection.execute(self._insert(), rows))

    def history(
        self,
        run_id: str,
        *,
        after: str = "",
        types: Sequence[EventType] = (),
        limit: int | None = None,
    ) -> list[Event]:
        """A run's events in the order in which the log took them.

        Args:
          after: an ``event_id``: only what came behind it.
          types: only these; all when empty.
          limit: at most so many, the first ones.

        Raises:
          EventLogUnavailable: the log cannot be read, or holds what is no event.
          LookupError: the log has no event ``after``.
        """
        if self.path is not None and not self.path.exists():
            return []
        chosen = sa.select(_TABLE).where(_TABLE.c.run_id == run_id)
        if after:
            chosen = chosen.where(_TABLE.c.seq > self._place(after))
        if types:
            chosen = chosen.where(_TABLE.c.type.in_([one.value for one in types]))
        rows = self._read(chosen.order_by(_TABLE.c.seq).limit(limit))
        try:
            return [_event(row) for row in rows]
        except ValueError as error:
            raise self._unavailable("read", error) from error

    def snapshot(self, run_id: str) -> Snapshot:
        """Where the run stands now.

        Raises:
          EventLogUnavailable: as :meth:`history`.
        """
        now, after = Snapshot(), ""
        while page := self.history(run_id, after=after, limit=_PAGE):
            now, after = advance(now, page), page[-1].event_id
        return now

    def follow(
        self,
        run_id: str,
        *,
        after: str = "",
        poll_seconds: float = POLL_SECONDS,
        is_over: Callable[[], bool] | None = None,
    ) -> Iterator[Event]:
        """The run's events, those that are there and then each new one.

        Args:
          after: an ``event_id``: only what came behind it.
          poll_seconds: how often the log is asked.
          is_over: asked whenever there is nothing new; True ends it. By default it ends behind a
            ``run_stopped``.

        Raises:
          EventLogUnavailable: as :meth:`history`.
        """
        last: Event | None = None
        while True:
            # Asked before the log: what came before the end is still told.
            ends = is_over() if is_over else last is not None and last.type is EventType.RUN_STOPPED
            new = self.history(run_id, after=last.event_id if last else after, limit=_PAGE)
            for last in new:
                yield last
            if not new and ends:
                return
            if not new:
                time.sleep(poll_seconds)

    def close(self) -> None:
        """Ends the connections; the next use opens new ones."""
        if "_engine" in vars(self):
            self._engine.dispose()

    @cached_property
    def _engine(self) -> sa.Engine:
        if self._url.drivername == "sqlite":
            engine = sa.create_engine(self._url, connect_args={"timeout": self._patience})
            sa.event.listen(engine, "connect", _durable)
            return engine
        try:
            return sa.create_engine(
                self._url, pool_pre_ping=True, connect_args={"connect_timeout": 5}
            )
        except ModuleNotFoundError as error:
            raise EventLogUnavailable(
                f"the event log {self.where} needs {error.name}: pip install 'fedloom[postgres]'"
            ) from error

    def _insert(self) -> sa.Insert:
        dialect = sqlite if self._url.drivername == "sqlite" else postgresql
        insert = dialect.insert(_TABLE)
        ignored: sa.Insert = insert.on_conflict_do_nothing(index_elements=["event_id"])
        return ignored

    def _committed(self, work: Callable[[sa.Connection], Any]) -> None:
        """``work`` in one transaction, tried until it is committed or patience ends."""
        until, pause = time.monotonic() + self._patience, 0.01
        while True:
            try:
                self._begin_again_if_removed()
                with self._engine.begin() as connection:
                    if self._url.drivername != "sqlite":
                        lock = sa.func.pg_advisory_xact_lock(_POSTGRES_LOCK)
                        connection.execute(sa.select(lock))
                    self._require_table(connection)
                    work(connection)
                self._is_ready = True
                return
            except _TROUBLE as error:
                if not _is_busy(error) or time.monotonic() > until:
                    raise self._unavailable("write", error) from error
            # Busy although SQLite waits itself: it does not wait for a change of journal mode.
            time.sleep(pause * (0.5 + random.random()))
            pause = min(2 * pause, 0.5)

    def _require_table(self, connection: sa.Connection) -> None:
        if not self._is_ready:
            connection.execute(CreateTable(_TABLE, if_not_exists=True))
            connection.execute(CreateIndex(_BY_RUN, if_not_exists=True))

    def _begin_again_if_removed(self) -> None:
        """A removed file stays open, and what is written into it would be lost unseen."""
        if self.path is not None and not self.path.exists():
            self.close()
            self._is_ready = False
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def _place(self, event_id: str) -> int:
        chosen = sa.select(_TABLE.c.seq).where(_TABLE.c.event_id == event_id)
        found = self._read(chosen)
        if not found:
            raise LookupError(f"the event log {self.where} has no event {event_id!r}.")
        return int(found[0].seq)

    def _read(self, chosen: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        try:
            with self._engine.connect() as connection:
                return connection.execute(chosen).all()
        except _TROUBLE as error:
            if _has_no_table(error):
                return []
            raise self._unavailable("read", error) from error

    def _unavailable(self, what: str, error: Exception) -> EventLogUnavailable:
        why = getattr(error, "orig", None) or error
        way_out = (
            "Move the file aside to begin a new log; no run needs the old one."
            if self.path
            else "Does the server answer?"
        )
        reason = " ".join(str(why).split())
        return EventLogUnavailable(f"cannot {what} the event log {self.where}: {reason}. {way_out}")


def _parsed(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except SQLAlchemyError:
        # Not shown: it may hold a password.
        raise ValueError("the URL of the event log is none; take sqlite:///FILE.") from None
    kind = parsed.get_backend_name()
    if kind == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite")
    if kind in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise ValueError(
        f"the event log {parsed.render_as_string(hide_password=True)} must be sqlite:///FILE or "
        "postgresql://USER:PASSWORD@HOST/DATABASE."
    )


def _durable(connection: Any, _record: Any) -> None:
    """WAL: readers and the one writer do not wait for each other. FULL: a commit is on the disk."""
    cursor = connection.cursor()
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _row(event: Event) -> dict[str, Any]:
    return event.to_json() | {"metrics": json.dumps(dict(event.metrics), allow_nan=False)}


def _event(row: sa.Row[Any]) -> Event:
    value = {name: getattr(row, name) for name in FIELDS}
    return Event.from_json(value | {"metrics": json.loads(row.metrics)})


def _is_busy(error: Exception) -> bool:
    """Another process holds the lock; everything else is not a matter of waiting."""
    return "database is locked" in str(getattr(error, "orig", error))


def _has_no_table(error: Exception) -> bool:
    said = getattr(error, "orig", None)
    return "no such table" in str(said) or getattr(said, "sqlstate", "") == "42P01"
