"""Where do a generation's relations come from, and how do two generations change places?

A new generation is made in the likeness of the live one, whatever migrations have made of that. It gets
most indexes only once the journal is in: filling an index row by row takes longer than sorting it once.
"""

# ruff: noqa: S608 - every part of the statements is a constant or what Postgres says of its own relations

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from fulcrum.errors import Conflict
from fulcrum.readmodel.relations import LIVE_SCHEMA, run_keys, timeline, workflow_runs

RELATIONS = (workflow_runs.name, timeline.name, run_keys.name)
#: The relation whose rows give way to newer ones, so it cannot do without its key.
_KEYED = workflow_runs.name


def create(connection: Connection, schema: str) -> None:
    """Make the relations of a new generation, empty."""
    connection.execute(text(f"CREATE SCHEMA {schema}"))
    for name in RELATIONS:
        like = f"LIKE {LIVE_SCHEMA}.{name} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE"
        connection.execute(text(f"CREATE TABLE {schema}.{name} ({like})"))
    for constraint, definition in _keys(connection, _KEYED):
        connection.execute(text(f"ALTER TABLE {schema}.{_KEYED} ADD CONSTRAINT {constraint} {definition}"))


def index(connection: Connection, schema: str) -> None:
    """Give the relations every index that the live ones have, and let the planner know what is in them."""
    connection.execute(text("SET LOCAL maintenance_work_mem = '128MB'"))
    for name in RELATIONS:
        there = _indexes(connection, schema, name)
        for constraint, definition in _keys(connection, name):
            if constraint not in there:
                _add_key(connection, f"{schema}.{name}", constraint, definition)
        for index_name, definition in _indexes(connection, LIVE_SCHEMA, name).items():
            if index_name not in _indexes(connection, schema, name):
                moved = definition.replace(f" ON {LIVE_SCHEMA}.", f" ON {schema}.", 1)
                connection.execute(text(moved.replace(":", "\\:")))
        connection.execute(text(f"ANALYZE {schema}.{name}"))


def copy_before(connection: Connection, schema: str, moment: datetime) -> None:
    """Copy from the live generation what was decided before ``moment`` and is not decided again since."""
    given = {"moment": moment}
    for name, column in ((workflow_runs.name, "updated_at"), (timeline.name, "at")):
        statement = f"INSERT INTO {schema}.{name} SELECT * FROM {LIVE_SCHEMA}.{name} WHERE {column} < :moment"
        connection.execute(text(statement), given)
    # The other workflows get theirs when their first decision is folded.
    into, source = (f"{each}.{run_keys.name}" for each in (schema, LIVE_SCHEMA))
    copied = f"SELECT workflow_id FROM {schema}.{workflow_runs.name}"
    connection.execute(text(f"INSERT INTO {into} SELECT * FROM {source} WHERE workflow_id IN ({copied})"))


def exchange(connection: Connection, new: str, old: str) -> None:
    """Move the relations in schema ``new`` into the live schema, and those there into schema ``old``.

    Conflict when a migration has changed the live ones since the others were made.
    """
    require_alike(connection, new)
    connection.execute(text(f"CREATE SCHEMA {old}"))
    for name in RELATIONS:
        connection.execute(text(f"ALTER TABLE {LIVE_SCHEMA}.{name} SET SCHEMA {old}"))
        connection.execute(text(f"ALTER TABLE {new}.{name} SET SCHEMA {LIVE_SCHEMA}"))
    connection.execute(text(f"DROP SCHEMA {new}"))


def drop(connection: Connection, schema: str) -> None:
    """Remove the relations of a generation that is not live."""
    connection.execute(text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))


def require_alike(connection: Connection, schema: str) -> None:
    """Conflict when the relations in ``schema`` differ from the live ones in their columns."""
    for name in RELATIONS:
        live, other = _columns(connection, LIVE_SCHEMA, name), _columns(connection, schema, name)
        if live != other:
            changed = ", ".join(sorted(f"{column} {kind}" for column, kind in live ^ other))
            raise Conflict(
                f"{schema}.{name} is not like {LIVE_SCHEMA}.{name} any more ({changed}): a migration came "
                "between; drop that generation and rebuild"
            )


def _add_key(connection: Connection, relation: str, constraint: str, definition: str) -> None:
    """Add a key; rows that the journal holds twice are reduced to the first, as in the live generation."""
    statement = text(f"ALTER TABLE {relation} ADD CONSTRAINT {constraint} {definition}")
    try:
        with connection.begin_nested():
            connection.execute(statement)
    except IntegrityError:
        columns = definition[definition.index("(") + 1 : definition.rindex(")")]
        ranked = f"SELECT ctid, row_number() OVER (PARTITION BY {columns} ORDER BY ctid) AS n FROM {relation}"
        later = f"SELECT ctid FROM ({ranked}) AS ranked WHERE n > 1"
        connection.execute(text(f"DELETE FROM {relation} WHERE ctid IN ({later})"))
        connection.execute(statement)


def _keys(connection: Connection, name: str) -> list[tuple[str, str]]:
    """Name and definition of each primary and unique key of a live relation."""
    found = connection.execute(_KEYS, {"relation": f"{LIVE_SCHEMA}.{name}"})
    return [(row.conname, row.definition) for row in found]


def _indexes(connection: Connection, schema: str, name: str) -> dict[str, str]:
    found = connection.execute(_INDEXES, {"schema": schema, "name": name})
    return {row.indexname: row.indexdef for row in found}


def _columns(connection: Connection, schema: str, name: str) -> set[tuple[str, str]]:
    found = connection.execute(_COLUMNS, {"schema": schema, "name": name})
    return {(row.column_name, row.udt_name) for row in found}


_KEYS = text(
    """
    SELECT conname, pg_get_constraintdef(oid) AS definition FROM pg_constraint
    WHERE conrelid = CAST(:relation AS regclass) AND contype IN ('p', 'u') ORDER BY contype, conname
    """
)
_INDEXES = text(
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = :schema AND tablename = :name"
    " ORDER BY indexname"
)
_COLUMNS = text(
    "SELECT column_name, udt_name FROM information_schema.columns"
    " WHERE table_schema = :schema AND table_name = :name"
)
