"""What went wrong in Postgres, in this project's words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from psycopg2 import errorcodes

from fulcrum.errors import Misconfigured, Retryable, Unavailable


class DatabaseDown(Unavailable):
    """No connection to Postgres is to be had: no work can go on, and no message is to blame."""


class NoSessionFree(DatabaseDown):
    """Every session of this process is in use: wait, the others will be done."""


class StatementTimeout(Unavailable):
    """A statement ran into its time limit; the connection is fine."""


class SerializationFailure(Retryable):
    """Two transactions stood in each other's way; the same work may succeed at once."""


_STOOD_IN_THE_WAY = frozenset({errorcodes.SERIALIZATION_FAILURE, errorcodes.DEADLOCK_DETECTED})

#: Nothing is wrong with the statement: the server, a standby or a wait was.
_NOT_AVAILABLE = frozenset(
    {
        errorcodes.LOCK_NOT_AVAILABLE,
        errorcodes.QUERY_CANCELED,
        errorcodes.READ_ONLY_SQL_TRANSACTION,
        errorcodes.IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    }
)
#: Connection exception, insufficient resources, operator intervention, system error.
_DOWN_CLASSES = frozenset({"08", "53", "57", "58"})

#: What libpq says when another start will fail too. It gives no code before a session exists.
_WRONG_ADDRESS = ("does not exist", "authentication failed", "no password supplied", "no pg_hba.conf entry")


def times_cancelled() -> int:
    """How often somebody cancelled this task; aiopg says so too, after a statement timeout."""
    task = asyncio.current_task()
    return 1 if task is None else task.cancelling()


@contextmanager
def cancellation_kept() -> Iterator[None]:
    """Raise the CancelledError that aiopg lost inside.

    It waits with ``asyncio.wait_for``, which until Python 3.12 drops a cancellation that comes together with
    what it waits for; a loop of statements then never ends.
    """
    before = times_cancelled()
    yield
    if times_cancelled() > before:
        raise asyncio.CancelledError


def translate(error: psycopg2.Error, connection_lost: bool, server: str) -> Exception:
    """What to raise for ``error``: one of ours, or itself when the statement is at fault."""
    code: str | None = error.pgcode
    text = str(error).strip() or type(error).__name__
    if code in _STOOD_IN_THE_WAY:
        return SerializationFailure(text)
    if code in _NOT_AVAILABLE:
        return Unavailable(f"Postgres at {server}: {text}")
    if code is not None and code[:2] in _DOWN_CLASSES:
        return DatabaseDown(f"Postgres at {server}: {text}")
    if connection_lost or (code is None and not isinstance(error, psycopg2.ProgrammingError)):
        # A server that dies in the middle of an answer makes libpq say many things, all without a code.
        return DatabaseDown(f"Postgres at {server} is gone: {text}")
    return error


def translate_refusal(error: psycopg2.Error, server: str) -> Exception:
    """The exception to raise when no session could be opened."""
    text = str(error).strip()
    if any(phrase in text for phrase in _WRONG_ADDRESS):
        return Misconfigured(f"Postgres at {server} refuses us: {text}. Check FULCRUM_POSTGRES_DSN.")
    return DatabaseDown(f"Postgres at {server} does not answer: {text}")
