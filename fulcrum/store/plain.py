"""How does a program that is no service reach Postgres? By one connection, without a pool or time limits.

Migrations and rebuilds run statements that take minutes, one after the other; services use
``fulcrum.store.database``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg2
from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from fulcrum.store.failures import translate, translate_refusal
from fulcrum.store.pool import server_of

_CONNECT_TIMEOUT = 10


@contextmanager
def connected(
    dsn: str, application_name: str, parameters: Mapping[str, str] | None = None
) -> Iterator[Connection]:
    """A connection with the server's ``parameters`` set. Errors leave it as ours: Unavailable, Misconfigured
    when Postgres refuses user, password or database, or psycopg2's own when a statement is wrong."""
    given = {"application_name": application_name, "timezone": "UTC", **(parameters or {})}
    options = " ".join(f"-c {name}={value}" for name, value in given.items())
    engine = create_engine(
        "postgresql+psycopg2://",
        creator=lambda: psycopg2.connect(dsn, options=options, connect_timeout=_CONNECT_TIMEOUT),
        poolclass=NullPool,
    )
    try:
        connection = engine.connect()
    except DBAPIError as error:
        if isinstance(error.orig, psycopg2.Error):
            raise translate_refusal(error.orig, server_of(dsn)) from error
        raise
    with connection:
        try:
            yield connection
        except DBAPIError as error:
            if isinstance(error.orig, psycopg2.Error):
                raise translate(error.orig, error.connection_invalidated, server_of(dsn)) from error
            raise
