import asyncio
import sqlite3
import threading
from contextlib import asynccontextmanager, contextmanager

import pytest
from prefect.server.database import dependencies
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

from deployments.stack.sqlite_turns import Connection, SqliteInTurns, use_turns_on_sqlite

URL = "sqlite+aiosqlite:///{}/prefect.db"


@asynccontextmanager
async def transaction(config):
    session = await config.session(await config.engine())
    async with session, config.begin_transaction(session):
        yield session


@contextmanager
def counting(config):
    """(a transaction that reads, lets others work, and writes; what the table holds in the end)."""

    async def begin():
        async with transaction(config) as session:
            await session.execute(text("CREATE TABLE numbers (number INTEGER UNIQUE)"))

    async def add():
        async with transaction(config) as session:
            count = await session.scalar(text("SELECT COUNT(*) FROM numbers"))
            await asyncio.sleep(0.01)
            await session.execute(text(f"INSERT INTO numbers VALUES ({count})"))

    async def dispose():
        await (await config.engine()).dispose()

    with asyncio.Runner() as runner:

        async def times(count):
            found = await asyncio.gather(*(add() for _ in range(count)), return_exceptions=True)
            return [type(one) for one in found if one is not None]

        runner.run(begin())
        yield lambda count: runner.run(times(count))
        runner.run(dispose())


def test_transactions_that_read_and_then_write_all_stand(tmp_path):
    with counting(SqliteInTurns(connection_url=URL.format(tmp_path))) as add:
        assert add(20) == []
    with sqlite3.connect(tmp_path / "prefect.db") as found:
        assert found.execute("SELECT COUNT(*) FROM numbers").fetchone() == (20,)


def test_prefects_own_are_refused(tmp_path):
    with counting(AioSqliteConfiguration(connection_url=URL.format(tmp_path))) as add:
        assert OperationalError in add(3)


def test_a_failed_transaction_gives_its_turn_on(tmp_path):
    config = SqliteInTurns(connection_url=URL.format(tmp_path))

    async def fail():
        async with transaction(config) as session:
            await session.execute(text("INSERT INTO numbers VALUES (0), (0)"))

    with counting(config) as add:
        with pytest.raises(IntegrityError):
            asyncio.run(fail())
        assert add(2) == []


def test_a_transaction_within_another_does_not_wait_for_it(tmp_path):
    config = SqliteInTurns(connection_url=URL.format(tmp_path))

    async def within():
        async with transaction(config), transaction(config) as inner:
            return await inner.scalar(text("SELECT 1"))

    assert asyncio.run(asyncio.wait_for(within(), 30)) == 1


@pytest.mark.parametrize(
    ("factory", "patience", "ends"),
    [(sqlite3.Connection, 0.5, "database is locked"), (Connection, 30.0, "its turn")],
)
def test_what_is_left_of_a_failure_waits_for_no_lock(tmp_path, factory, patience, ends):
    """It would wait for the connection's mutex, and that for the lock."""
    path = tmp_path / "some.db"

    def connect(**words):
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, **words)

    holder, waiter = connect(), connect(factory=factory, timeout=patience)
    holder.execute("PRAGMA journal_mode = WAL")
    holder.execute("CREATE TABLE numbers (number INTEGER UNIQUE)")
    left = waiter.cursor()
    with pytest.raises(sqlite3.IntegrityError):
        left.execute("INSERT INTO numbers VALUES (0), (0)")
    holder.execute("BEGIN IMMEDIATE")
    is_waiting, found = threading.Event(), []
    waiter.set_trace_callback(lambda statement: is_waiting.set())  # called under the mutex

    def wait():
        try:
            waiter.execute("BEGIN IMMEDIATE")
            found.append("its turn")
        except sqlite3.OperationalError as error:
            found.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    is_waiting.wait()
    del left
    holder.execute("COMMIT")
    thread.join()
    assert found == [ends]


def test_only_a_server_on_sqlite_takes_turns(tmp_path, monkeypatch):
    monkeypatch.setitem(dependencies.MODELS_DEPENDENCIES, "database_config", None)
    for url, kind in (
        ("postgresql+asyncpg://fedloom@here/fedloom", type(None)),
        (URL.format(tmp_path), SqliteInTurns),
    ):
        with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: url}):
            use_turns_on_sqlite()
        assert type(dependencies.MODELS_DEPENDENCIES["database_config"]) is kind
