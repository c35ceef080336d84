"""How work reaches Postgres: statements, alone or in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.sql.elements import ClauseElement

from fulcrum.errors import Unavailable
from fulcrum.store.failures import DatabaseDown as DatabaseDown
from fulcrum.store.failures import NoSessionFree as NoSessionFree
from fulcrum.store.failures import SerializationFailure as SerializationFailure
from fulcrum.store.failures import StatementTimeout as StatementTimeout
from fulcrum.store.pool import Pool, Session
from fulcrum.store.statements import Parameters, compiled

Row = dict[str, Any]

_PING = text("SELECT 1")
#: For this transaction only.
_WITHIN = select(func.set_config("statement_timeout", bindparam("limit"), True))
_OPEN_RETRY = 0.25


class Transaction:
    """A unit of work: ``async with db.transaction() as tx``. Leaving without an error commits.

    BEGIN travels with the first statement, what ``ahead`` was given with the next one, and what ``at_commit``
    was given with COMMIT, so that a unit of n statements costs n + 1 round trips at most. One task at a time.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._session: Session | None = None
        self._begun = False
        self._ahead: list[str] = []
        self._last: list[str] = []
        self._callbacks: list[Callable[[], None]] = []

    async def execute(self, statement: ClauseElement, parameters: Parameters | None = None) -> int:
        """Run ``statement``; returns the number of rows it touched."""
        return (await self._run(statement, parameters)).rowcount

    async def all(self, statement: ClauseElement, parameters: Parameters | None = None) -> list[Row]:
        """Every row, as a dict by column: bytea is bytes, uuid is str, jsonb is objects, times are aware."""
        return (await self._run(statement, parameters)).rows()

    async def one(self, statement: ClauseElement, parameters: Parameters | None = None) -> Row | None:
        """The first row, or None."""
        rows = await self.all(statement, parameters)
        return rows[0] if rows else None

    def ahead(self, statement: ClauseElement, parameters: Parameters | None = None) -> None:
        """Run ``statement`` before the next one, in its round trip; nobody sees its rows."""
        self._ahead.append(self._open_session.text(*compiled(statement, parameters)))

    def at_commit(self, statement: ClauseElement, parameters: Parameters | None = None) -> None:
        """Run ``statement`` last, in the round trip of the COMMIT; its failure fails the transaction."""
        self._last.append(self._open_session.text(*compiled(statement, parameters)))

    def within(self, seconds: float) -> None:
        """Let no statement of this transaction take longer; StatementTimeout when one does."""
        self.ahead(_WITHIN, {"limit": str(max(1, round(seconds * 1000)))})

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once the transaction is committed, and only then."""
        self._callbacks.append(callback)

    @property
    def _open_session(self) -> Session:
        if self._session is None:
            raise RuntimeError("a transaction is used inside its `async with` only")
        return self._session

    async def _run(self, statement: ClauseElement, parameters: Parameters | None) -> Session:
        session = self._open_session
        sql, bound = compiled(statement, parameters)
        before = [] if self._begun else ["BEGIN"]
        self._begun = True
        await session.run("; ".join([*before, *self._ahead, session.text(sql, bound)]))
        self._ahead.clear()
        return session

    async def __aenter__(self) -> Transaction:
        self._session = await self._pool.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session = self._open_session
        try:
            if error is None:
                await self._commit(session)
            elif isinstance(error, Exception):
                await self._roll_back(session)
            else:  # cancelled: nothing may be awaited any more
                session.close()
        finally:
            self._session = None
            self._pool.release(session)
        if error is None:
            for callback in self._callbacks:
                callback()

    async def _commit(self, session: Session) -> None:
        if not self._begun and not self._last and not self._ahead:
            return
        begin = [] if self._begun else ["BEGIN"]
        try:
            await session.run("; ".join([*begin, *self._ahead, *self._last, "COMMIT"]))
        except Exception:
            await self._roll_back(session)
            raise
        if session.status != "COMMIT":
            # Postgres answers COMMIT with ROLLBACK, and no error, when an error before was swallowed.
            raise RuntimeError("the transaction had failed before its end and was rolled back")

    async def _roll_back(self, session: Session) -> None:
        if session.usable or session.closed:
            return
        try:
            await session.run("ROLLBACK")
        except Unavailable:
            session.close()


class Database:
    """A pool of sessions. It mends itself: work fails with Unavailable until Postgres is back."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @classmethod
    async def open(
        cls,
        dsn: str,
        size: int = 10,
        *,
        application_name: str = "fulcrum",
        statement_timeout: float = 5.0,
        lock_timeout: float = 3.0,
        acquire_timeout: float = 5.0,
        wait: float = 10.0,
    ) -> Database:
        """Connect. All times in seconds; ``wait`` is how long Postgres may take to come up.

        Raises Unavailable when it does not, Misconfigured when it refuses user, password or database.
        """
        limits = {
            "application_name": application_name.replace(" ", "_"),
            "statement_timeout": round(statement_timeout * 1000),
            "lock_timeout": round(lock_timeout * 1000),
            "idle_in_transaction_session_timeout": 60_000,
            "timezone": "UTC",
        }
        options = " ".join(f"-c {name}={value}" for name, value in limits.items())
        database = cls(Pool(dsn, size, statement_timeout, acquire_timeout, options))
        deadline = asyncio.get_running_loop().time() + wait
        while True:
            try:
                await database.ping()
            except Unavailable:
                if asyncio.get_running_loop().time() >= deadline:
                    raise
                await asyncio.sleep(_OPEN_RETRY)
            else:
                return database

    def transaction(self) -> Transaction:
        """A unit of work, see Transaction."""
        return Transaction(self._pool)

    async def execute(self, statement: ClauseElement, parameters: Parameters | None = None) -> int:
        """Run one statement in a transaction of its own, in one round trip; returns the rows touched."""
        return (await self._alone(statement, parameters))[0]

    async def all(self, statement: ClauseElement, parameters: Parameters | None = None) -> list[Row]:
        """The rows of one statement in a transaction of its own."""
        return (await self._alone(statement, parameters))[1]

    async def one(self, statement: ClauseElement, parameters: Parameters | None = None) -> Row | None:
        """The first row of one statement in a transaction of its own, or None."""
        rows = await self.all(statement, parameters)
        return rows[0] if rows else None

    async def _alone(self, statement: ClauseElement, parameters: Parameters | None) -> tuple[int, list[Row]]:
        sql, bound = compiled(statement, parameters)
        session = await self._pool.acquire()
        try:
            await session.run(session.text(sql, bound))
            return session.rowcount, session.rows()
        finally:
            self._pool.release(session)

    async def ping(self) -> None:
        """Raise Unavailable when Postgres does not answer."""
        await self.one(_PING)

    async def close(self) -> None:
        """Close idle sessions now and those in use when they are done."""
        self._pool.close()
