"""Which relations hold the pack jobs, their lines and their history, and the commands that wait for them?"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Integer, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from fulcrum.store.relations import METADATA, messaging, time_column, uuid_column

WAREHOUSE = messaging("warehouse")

PACK_JOB = Table(
    "pack_jobs",
    METADATA,
    Column("workflow_id", uuid_column(), primary_key=True),
    Column("state", Text, nullable=False),
    # What the job is driven to; none: it is left alone.
    Column("goal", Text),
    # How many events of the warehouse stream this workflow has.
    Column("sequence", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("pack_key", uuid_column()),
    Column("cancel_key", uuid_column()),
    Column("hand_over_key", uuid_column()),
    Column("ship_to", Text),
    Column("tracking_number", Text),
    Column("parcels", Integer),
    Column("reason", Text),
    Column("waits_until", time_column()),
    Column("requested_at", time_column(), nullable=False),
    Column("changed_at", time_column(), nullable=False),
    # When the floor is asked next; set as long as there is a goal.
    Column("due_at", time_column()),
    schema="warehouse",
)

PACK_LINE = Table(
    "pack_lines",
    METADATA,
    Column("workflow_id", uuid_column(), primary_key=True),
    # The place of the line in its order, from 0.
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("sku", Text, nullable=False),
    Column("requested", BigInteger, nullable=False),
    # Units that lie picked, or left with the parcels.
    Column("picked", BigInteger, nullable=False),
    Column("unit_minor", BigInteger, nullable=False),
    Column("on_short", Text, nullable=False),
    schema="warehouse",
)

#: Only grows: each state and goal that a job came to.
PACK_JOB_EVENT = Table(
    "pack_job_events",
    METADATA,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("workflow_id", uuid_column(), nullable=False),
    Column("at", time_column(), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("goal", Text),
    Column("reason", Text),
    schema="warehouse",
)

#: Commands that were taken and wait for their answer, with what joins the answer to them.
OPEN_COMMAND = Table(
    "open_commands",
    METADATA,
    Column("command_id", uuid_column(), primary_key=True),
    Column("workflow_id", uuid_column(), nullable=False),
    Column("type", Text, nullable=False),
    Column("begun_at", time_column(), nullable=False),
    Column("headers", JSONB, nullable=False),
    schema="warehouse",
)
