"""Which revisions of the Postgres schema a database has, and how it gets the rest."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from fulcrum.errors import Misconfigured
from fulcrum.store.database import Database
from fulcrum.store.plain import connected

#: Held while migrating, so that two starts at once do not both create a table. Any fixed number will do.
_MIGRATION_LOCK = 4_621_807_313
_REVISION = text("SELECT version_num FROM ops.revision")
_HAS_REVISION = text("SELECT to_regclass('ops.revision') IS NOT NULL AS present")


@dataclass(frozen=True)
class MigrationStatus:
    """``current`` is None for an empty database; ``pending`` are the revisions it lacks, oldest first."""

    current: str | None
    head: str
    pending: tuple[str, ...]


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def _chain() -> list[str]:
    """Every revision, oldest first."""
    scripts = ScriptDirectory.from_config(_config())
    return [script.revision for script in reversed(list(scripts.walk_revisions()))]


def _status(current: str | None) -> MigrationStatus:
    chain = _chain()
    if current is not None and current not in chain:
        raise Misconfigured(
            f"The database is at revision {current}, which this version of Fulcrum does not know "
            f"(it knows up to {chain[-1]}): run the version that made it, or a newer one."
        )
    done = 0 if current is None else chain.index(current) + 1
    return MigrationStatus(current, chain[-1], tuple(chain[done:]))


def _connected(dsn: str) -> AbstractContextManager[Connection]:
    return connected(dsn, "fulcrum-db")


def _current(connection: Connection) -> str | None:
    if not connection.execute(_HAS_REVISION).scalar_one():
        return None
    revision = connection.execute(_REVISION).scalar_one_or_none()
    return None if revision is None else str(revision)


def status(dsn: str) -> MigrationStatus:
    """What the database at ``dsn`` has and lacks. Unavailable when it does not answer."""
    with _connected(dsn) as connection:
        return _status(_current(connection))


def migrate(dsn: str) -> MigrationStatus:
    """Apply every pending revision, all or none; returns the status before. Safe to run twice at once."""
    with _connected(dsn) as connection, connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS ops"))
        before = _status(_current(connection))
        command.upgrade(_config(connection), "head")
    return before


async def require_current(db: Database) -> None:
    """Refuse to start on a database that lacks a revision: Misconfigured names it and the remedy."""
    present = await db.one(_HAS_REVISION)
    row = await db.one(_REVISION) if present and present["present"] else None
    found = _status(row["version_num"] if row else None)
    if found.pending:
        raise Misconfigured(
            f"The database lacks revisions {', '.join(found.pending)}: run `fulcrum db migrate`."
        )
