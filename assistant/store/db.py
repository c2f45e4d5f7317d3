"""Connections, by role. Whatever reads source text for somebody goes through `Database.reader`."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg import Connection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from assistant.errors import NotRunning, QuestionRejected
from assistant.model import Audience, Principal

Row = dict[str, Any]
Conn = Connection[DictRow]

_OPTIONS = (
    "-c search_path=deskhand,public -c timezone=UTC -c jit=off -c plan_cache_mode=force_custom_plan -c role="
)


def _configure(connection: Conn) -> None:
    register_vector(connection)
    connection.commit()


def explain(error: Exception) -> str:
    """What is wrong with the database, and what to do, from a connection error."""
    text = str(error).strip().split("\n")[0]
    if "password authentication failed" in text:
        return (
            "PostgreSQL refused the user or password. Nothing was changed. "
            "Correct DESKHAND_DATABASE_URL and try again."
        )
    if "permission denied to set role" in text or 'role "deskhand_' in text or "invalid value for" in text:
        return "The database has no Deskhand schema yet. Run `deskhand migrate`."
    if "No space left on device" in text:
        return "The disk of the database is full. Nothing was lost: free some space and try again."
    return (
        f"PostgreSQL can't be reached ({text}). Nothing was lost. "
        "Start it with `deskhand up`, or correct DESKHAND_DATABASE_URL."
    )


def clean(value: Any) -> Any:
    """Without what PostgreSQL can't hold: NUL characters and lone surrogates."""
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode()
    return value


class Database:
    """PostgreSQL as seen by one process; opens connections when first used.

    Make it after a fork, never before. Raises `NotRunning` with a remedy when the
    server is away.
    """

    def __init__(self, url: str, *, size: int = 4, timeout: float = 10.0) -> None:
        self.url = url
        self._size = size
        self._timeout = timeout
        self._pools: dict[str, ConnectionPool[Conn]] = {}
        self._making = threading.Lock()

    def _pool(self, role: str) -> ConnectionPool[Conn]:
        with self._making:  # two threads that begin at once would make two, and forget one
            if role not in self._pools:
                try:  # A pool retries in silence; the first connection says at once what is wrong.
                    self.connect(role).close()
                except psycopg.Error as error:
                    raise NotRunning(explain(error)) from error
                self._pools[role] = ConnectionPool(
                    self.url,
                    connection_class=Connection[DictRow],
                    min_size=0,
                    max_size=self._size,
                    timeout=self._timeout,
                    max_idle=120,
                    check=ConnectionPool[Conn].check_connection,
                    configure=_configure,
                    kwargs={"options": _OPTIONS + role, "row_factory": dict_row},
                    open=True,
                )
        return self._pools[role]

    def connect(self, role: str = "deskhand_writer") -> Conn:
        """A connection of its own, not pooled, for a lock that lasts; the caller closes it."""
        connection = Connection[DictRow].connect(
            self.url, options=_OPTIONS + role, row_factory=dict_row, connect_timeout=10, autocommit=True
        )
        try:
            register_vector(connection)
        except psycopg.Error:  # a database without the schema
            connection.close()
            raise
        return connection

    @contextmanager
    def _transaction(self, role: str) -> Generator[Conn]:
        try:
            with self._pool(role).connection() as connection:
                yield connection
        except (PoolTimeout, psycopg.OperationalError) as error:
            raise NotRunning(explain(error)) from error
        except psycopg.DataError as error:
            if "NUL" not in str(error):
                raise
            raise QuestionRejected(
                "It holds a character that is none (NUL). Nothing was stored; leave it out."
            ) from error

    @contextmanager
    def writer(self) -> Generator[Conn]:
        """A transaction of the sync and ingest side, which may see everything."""
        with self._transaction("deskhand_writer") as connection:
            yield connection

    @contextmanager
    def reader(self, principal: Principal, audience: Audience) -> Generator[Conn]:
        """A transaction that sees what `principal` may read, and of that only what
        `audience` may be told. Row-level security does the filtering."""
        with self._transaction("deskhand_reader") as connection:
            connection.execute(
                "select set_config('deskhand.tokens', %s::text[]::text, true),"
                " set_config('deskhand.audience', %s, true), set_config('deskhand.principal', %s, true)",
                (sorted(principal.tokens), audience.value, principal.id),
            )
            yield connection

    @contextmanager
    def owner(self) -> Generator[Conn]:
        """A transaction for which no policy holds: erasing goes through everybody's rows."""
        with self._transaction("deskhand_owner") as connection:
            yield connection

    def ping(self) -> None:
        """Raises `NotRunning` with a remedy when the server doesn't answer."""
        with self._transaction("deskhand_reader") as connection:
            connection.execute("select 1")

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
