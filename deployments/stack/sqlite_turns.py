"""How Prefect's server writes to SQLite: one transaction after another, and none is ever refused.

Prefect 3.8.8 begins most transactions as readers. One that then writes is refused ('database is
locked') when another wrote in between, however long it would have waited. What is left of a refused
statement can stop the whole server: the exception's cycle of references holds its cursor, the
garbage collector resets that in the event loop's thread, for which it waits for the connection's
mutex; a later statement of the same connection holds the mutex while it waits, up to a minute, for
a transaction that only the event loop can end. Eight polling sites brought that about in seconds.

So transactions take turns before they take a connection, each begins as a writer, and what failed
is closed where it was executed.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import set_database_config
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, AsyncSessionTransaction


class ClosesWhatFailed(sqlite3.Cursor):
    """Needs nothing of its connection any more once a statement has failed."""

    def execute(self, *args: Any) -> ClosesWhatFailed:
        """As sqlite3 does it."""
        try:
            return super().execute(*args)
        except sqlite3.Error:
            self.close()
            raise


class Connection(sqlite3.Connection):
    """sqlite3's own, with such cursors."""

    def cursor(self, factory: Any = ClosesWhatFailed) -> Any:
        """A cursor."""
        return super().cursor(factory)


class Turn:
    """A lock in order of arrival, and whose it is."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.holder: asyncio.Task[Any] | None = None


class SqliteInTurns(AioSqliteConfiguration):
    """Prefect's configuration for SQLite with transactions that take turns."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._turns = WeakKeyDictionary[asyncio.AbstractEventLoop, Turn]()

    async def engine(self) -> AsyncEngine:
        """The engine of this event loop."""
        engine = await super().engine()
        if not event.contains(engine.sync_engine, "do_connect", _with_such_cursors):
            event.listen(engine.sync_engine, "do_connect", _with_such_cursors)
        return engine

    @asynccontextmanager
    async def begin_transaction(
        self, session: AsyncSession, with_for_update: bool = False
    ) -> AsyncGenerator[AsyncSessionTransaction, None]:
        """A transaction in its turn; one within another is as Prefect begins it."""
        me, turn = asyncio.current_task(), self._turn()
        if turn.holder is me:
            async with super().begin_transaction(session, with_for_update) as transaction:
                yield transaction
            return
        async with turn.lock:
            turn.holder = me
            try:
                async with super().begin_transaction(session, True) as transaction:
                    yield transaction
            finally:
                turn.holder = None

    def _turn(self) -> Turn:
        """Of this event loop; between two of them SQLite's own lock stands."""
        return self._turns.setdefault(asyncio.get_running_loop(), Turn())


def use_turns_on_sqlite() -> None:
    """Make it that of the Prefect server in this process, where it keeps its tables in SQLite."""
    url = PREFECT_API_DATABASE_CONNECTION_URL.value()
    if url and url.startswith("sqlite"):
        set_database_config(SqliteInTurns(connection_url=url))


def _with_such_cursors(dialect: Any, record: Any, args: Any, options: dict[str, Any]) -> None:
    options["factory"] = Connection
