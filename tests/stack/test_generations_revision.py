"""The revision that brings generations: on a database with workflows in it, forth and back."""

from __future__ import annotations

from alembic import command
from projecting import held, rows

from fulcrum.settings import Settings
from fulcrum.store import migrate

RUN = "6f0c1d9e-1111-5222-8333-444455556666"
_FILLED = f"""
    INSERT INTO read_model.workflow_runs VALUES ('{RUN}', '{RUN}', 'acme', 'c', 'fulfillment.v1', 'running',
        1, NULL, '[]', 1, 'EUR', 'o', now(), now(), NULL, '[]')
    """


def test_what_is_read_stays_and_becomes_generation_one(empty_database: str) -> None:
    """Forth: the live relations are generation 1. Back: other generations go, and the live one stays."""
    settings = Settings.model_validate({"postgres_dsn": empty_database})
    rows(settings, "CREATE SCHEMA ops")
    to(empty_database, "0016-1")
    rows(settings, _FILLED)
    to(empty_database, "0016")
    assert rows(settings, "SELECT * FROM read_model.projections") == [
        {"name": "workflows", "live": 1, "previous": None, "epoch": 1}
    ]
    assert list(held(settings)) == [RUN]
    rows(settings, "CREATE SCHEMA read_model_g2; CREATE TABLE read_model_g2.timeline ()")
    rows(
        settings,
        "INSERT INTO read_model.generations (projection, generation, status)"
        " VALUES ('workflows', 2, 'ready')",
    )
    to(empty_database, "0016-1", down=True)
    assert list(held(settings)) == [RUN]
    assert not rows(settings, "SELECT 1 FROM pg_namespace WHERE nspname = 'read_model_g2'")
    assert not rows(settings, "SELECT 1 FROM pg_tables WHERE tablename LIKE 'generation%'")


def to(dsn: str, revision: str, down: bool = False) -> None:
    """Bring the database to a revision."""
    with migrate._connected(dsn) as connection, connection.begin():
        (command.downgrade if down else command.upgrade)(migrate._config(connection), revision)
