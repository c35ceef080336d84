"""Which Postgres session a piece of work may use, and how one is opened.

aiopg's own pool connects while it holds the lock that a release needs, and starts a task per release;
this one waits boundedly, forgets broken sessions and costs two list operations.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import aiopg
import psycopg2
import psycopg2.errors
import psycopg2.extensions

from fulcrum.store.failures import (
    DatabaseDown,
    NoSessionFree,
    SerializationFailure,
    StatementTimeout,
    cancellation_kept,
    times_cancelled,
    translate,
    translate_refusal,
)
from fulcrum.store.prepared import Prepared
from fulcrum.store.statements import is_lasting

_IDLE = psycopg2.extensions.TRANSACTION_STATUS_IDLE
_CONNECT_TIMEOUT = 5.0
#: What the client waits beyond the server's own limit before it takes the connection for dead.
_GRACE = 2.0


def _bytes(value: str | bytes | None, cursor: Any) -> bytes | None:
    view = psycopg2.BINARY(value, cursor)
    return None if view is None else bytes(view)


_BYTEA = psycopg2.extensions.new_type(psycopg2.BINARY.values, "BYTEA", _bytes)


class Session:
    """One connection and its cursor; every error leaves it as one of ours."""

    def __init__(self, connection: aiopg.Connection, cursor: aiopg.Cursor, server: str) -> None:
        self._connection = connection
        self._cursor = cursor
        self._server = server
        self._prepared = Prepared()

    @property
    def usable(self) -> bool:
        """Connected and in no transaction."""
        return not self._connection.closed and self._connection.raw.get_transaction_status() == _IDLE

    @property
    def closed(self) -> bool:
        return bool(self._connection.closed)

    @property
    def status(self) -> str:
        """What the server said it did last, such as ``COMMIT``."""
        return self._cursor.statusmessage

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the last statement that returned any."""
        names = [column.name for column in self._cursor.description or ()]
        if not names:
            return []
        with self._translated():
            return [dict(zip(names, row, strict=True)) for row in self._cursor.raw.fetchall()]

    def text(self, sql: str, parameters: Mapping[str, Any]) -> str:
        """The statement with its parameters in place; one that lasts is prepared here or was before."""
        if is_lasting(sql):
            return self._prepared.text(sql, parameters, self._filled)
        return self._filled(sql, parameters)

    def _filled(self, sql: str, parameters: Mapping[str, Any]) -> str:
        return self._cursor.mogrify(sql, parameters).decode()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The connection may be lost at any time, also between an answer and the reading of it."""
        try:
            yield
        except psycopg2.Error as error:
            raise translate(error, self.closed, self._server) from error

    async def run(self, sql: str) -> None:
        """Execute ``sql``, in which every value is in its place.

        Raises Unavailable (DatabaseDown when the connection is gone, StatementTimeout when the server took
        too long), SerializationFailure, or psycopg2's own error when the statement is wrong.

        aiopg raises CancelledError for a statement timeout, which would look like this task being stopped.
        """
        try:
            with self._prepared.within(sql), self._translated(), cancellation_kept():
                await self._cursor.execute(sql)
        except psycopg2.errors.InvalidSqlStatementName as error:
            self._prepared.give_up()
            self.close()
            raise SerializationFailure(str(error)) from error
        except asyncio.CancelledError as error:
            if times_cancelled() > 0:
                self.close()
                raise
            raise StatementTimeout(
                f"Postgres at {self._server}: a statement ran into its time limit"
            ) from error
        except TimeoutError as error:
            self.close()
            raise DatabaseDown(f"Postgres at {self._server} did not answer a statement") from error

    def close(self) -> None:
        """Drop the connection; the server rolls back what was open."""
        self._connection.close()


class Pool:
    """At most ``size`` sessions; the one used last is used next."""

    def __init__(self, dsn: str, size: int, statement_timeout: float, wait: float, options: str) -> None:
        self.server = server_of(dsn)
        self._dsn = dsn
        self._options = options
        self._statement_timeout = statement_timeout
        self._wait = wait
        self._places = asyncio.Semaphore(size)
        self._idle: list[Session] = []
        self._closed = False

    async def acquire(self) -> Session:
        """A usable session; NoSessionFree when none is free in time, DatabaseDown without Postgres."""
        if self._closed:
            raise DatabaseDown(f"The connections to Postgres at {self.server} are closed")
        try:
            async with asyncio.timeout(self._wait):
                await self._places.acquire()
        except TimeoutError as error:
            raise NoSessionFree(
                f"No connection to Postgres at {self.server} was free for {self._wait} s"
            ) from error
        try:
            while self._idle:
                session = self._idle.pop()
                if session.usable:
                    return session
                session.close()
            return await self._connect()
        except BaseException:
            self._places.release()
            raise

    def release(self, session: Session) -> None:
        """Take ``session`` back; one that is broken or in the middle of something is dropped."""
        if session.usable and not self._closed:
            self._idle.append(session)
        else:
            session.close()
        self._places.release()

    async def _connect(self) -> Session:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                _forget_next_descriptor()
                with cancellation_kept():
                    connection = await aiopg.connect(
                        self._dsn,
                        timeout=self._statement_timeout + _GRACE,
                        # jsonb arrives as objects and uuid as text without aiopg's extra round trips.
                        enable_json=False,
                        enable_hstore=False,
                        enable_uuid=False,
                        options=self._options,
                        keepalives_idle=10,
                        keepalives_interval=5,
                        keepalives_count=3,
                    )
        except TimeoutError as error:
            raise DatabaseDown(
                f"Postgres at {self.server} did not answer for {_CONNECT_TIMEOUT} s"
            ) from error
        except RuntimeError as error:
            # The socket did not get the number that was freed for it; another try will.
            raise DatabaseDown(f"the connection to Postgres at {self.server} could not be watched") from error
        except psycopg2.Error as error:
            raise translate_refusal(error, self.server) from error
        psycopg2.extensions.register_type(_BYTEA, connection.raw)
        return Session(connection, await connection.cursor(), self.server)

    def close(self) -> None:
        """Close what is idle now and what is in use when it comes back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


def _forget_next_descriptor() -> None:
    """Remove what uvloop may still watch under the number that the next socket gets.

    When a connection breaks, libpq closes the socket before aiopg can end the watch on it. uvloop then keeps
    a dead watch for that number and refuses a new one. The lowest free number is the next socket's, and
    nobody can have a right to watch it.
    """
    descriptor = os.open(os.devnull, os.O_RDONLY)
    try:
        with suppress(RuntimeError):
            asyncio.get_running_loop().remove_reader(descriptor)
    finally:
        os.close(descriptor)


def server_of(dsn: str) -> str:
    """host:port/database of ``dsn``, without user or password."""
    parts = psycopg2.extensions.parse_dsn(dsn)
    return f"{parts.get('host', 'localhost')}:{parts.get('port', '5432')}/{parts.get('dbname', '')}"
