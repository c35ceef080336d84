"""Finding workflows: the step that a run waits for, what it is looked up by, and an index for each list.

Every generation of the read model gets them, not only the live one, so that a rollback still fits.
"""

# ruff: noqa: S608 - the only variable part is a schema that Postgres has named itself

from alembic import op
from sqlalchemy import text

revision = "0017"
down_revision = "0016"

_FINAL = "('completed', 'cancelled', 'terminated')"


def upgrade() -> None:
    """Add the column, the relation and the indexes, and fill them from what is there."""
    op.execute(
        """
        CREATE FUNCTION read_model.command_ids(commands json) RETURNS text[]
        LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN (SELECT array_agg(c ->> 'command_id') FROM json_array_elements(commands) AS c)
        """
    )
    for schema in _generations():
        _step(schema)
        _keys(schema)
        _indexes(schema)


def _generations() -> list[str]:
    """The schemas that hold a generation, the live one first."""
    found = op.get_bind().execute(
        text(
            "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relname = 'workflow_runs' AND c.relkind = 'r'"
            " AND n.nspname ~ '^read_model(_g[0-9]+)?$' ORDER BY length(n.nspname), n.nspname"
        )
    )
    return [row.nspname for row in found]


def _step(schema: str) -> None:
    op.execute(f"ALTER TABLE {schema}.workflow_runs ADD COLUMN step text")
    op.execute(
        f"""
        UPDATE {schema}.workflow_runs AS run SET step = (
            SELECT s ->> 'name' FROM json_array_elements(run.steps) WITH ORDINALITY AS each (s, place)
            WHERE s ->> 'status' IN ('requested', 'undo_requested') ORDER BY place LIMIT 1
        )
        WHERE status NOT IN {_FINAL}
        """
    )


def _keys(schema: str) -> None:
    op.execute(
        f"""
        CREATE TABLE {schema}.run_keys (
            key         text        NOT NULL,
            kind        text        NOT NULL,
            started_at  timestamptz NOT NULL,
            workflow_id uuid        NOT NULL
        )
        """
    )
    op.execute(
        f"""
        INSERT INTO {schema}.run_keys
        SELECT correlation_id, 'correlation_id', started_at, workflow_id FROM {schema}.workflow_runs
        UNION ALL
        SELECT customer_ref, 'customer_ref', started_at, workflow_id FROM {schema}.workflow_runs
        UNION ALL
        SELECT DISTINCT line ->> 'sku', 'sku', started_at, workflow_id
        FROM {schema}.workflow_runs, json_array_elements(lines) AS line
        """
    )
    # The order of a list: what belongs to one key lies together, oldest first.
    op.execute(
        f"ALTER TABLE {schema}.run_keys"
        " ADD CONSTRAINT run_keys_pkey PRIMARY KEY (key, kind, started_at, workflow_id)"
    )


def _indexes(schema: str) -> None:
    runs, timeline = f"{schema}.workflow_runs", f"{schema}.timeline"
    place = "started_at, workflow_id"
    # Postgres would take it for a list with filters too, and read all of it when nothing new fits them.
    op.execute(f"DROP INDEX IF EXISTS {schema}.workflow_runs_newest")
    op.execute(f"CREATE INDEX workflow_runs_tenant ON {runs} (tenant, status, {place})")
    op.execute(f"CREATE INDEX workflow_runs_definition ON {runs} (definition, status, {place})")
    # Few runs wait at any time, so these two stay small.
    waiting = "WHERE step IS NOT NULL"
    op.execute(f"CREATE INDEX workflow_runs_step ON {runs} (step, status, {place}) {waiting}")
    op.execute(f"CREATE INDEX workflow_runs_tenant_step ON {runs} (tenant, step, status, {place}) {waiting}")
    # Ids are looked up one by one: a hash is a third of a tree's size and costs the projector less.
    op.execute(f"CREATE INDEX timeline_event ON {timeline} USING hash ((cause ->> 'event_id'))")
    op.execute(f"CREATE INDEX timeline_command ON {timeline} USING hash ((commands -> 0 ->> 'command_id'))")
    # Hardly any decision sends more than one command.
    op.execute(
        f"CREATE INDEX timeline_commands ON {timeline} USING gin (read_model.command_ids(commands))"
        " WHERE json_array_length(commands) > 1"
    )


def downgrade() -> None:
    """Take all of it away again; it can be made of what stays."""
    for schema in _generations():
        op.execute(f"DROP INDEX IF EXISTS {schema}.workflow_runs_tenant, {schema}.workflow_runs_definition")
        op.execute(f"CREATE INDEX workflow_runs_newest ON {schema}.workflow_runs (started_at, workflow_id)")
        op.execute(f"DROP TABLE {schema}.run_keys")
        # With the column go the indexes on it.
        op.execute(f"ALTER TABLE {schema}.workflow_runs DROP COLUMN step")
        for name in ("timeline_event", "timeline_command", "timeline_commands"):
            op.execute(f"DROP INDEX IF EXISTS {schema}.{name}")
    op.execute("DROP FUNCTION read_model.command_ids(json)")
