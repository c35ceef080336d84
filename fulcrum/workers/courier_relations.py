"""Which relations hold the shipments, the courier's updates, and the commands that have no answer yet?"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, Table, Text
from sqlalchemy.dialects.postgresql import BYTEA, JSONB

from fulcrum.store.relations import METADATA, messaging, time_column, uuid_column

COURIER = messaging("courier")

DELIVERIES = Table(
    "deliveries",
    METADATA,
    Column("workflow_id", uuid_column(), primary_key=True),
    Column("state", Text, nullable=False),
    # How many events of the courier stream this workflow has.
    Column("sequence", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("create_key", uuid_column()),
    Column("cancel_key", uuid_column()),
    # The courier's own names for it.
    Column("shipment_id", Text),
    Column("tracking_number", Text),
    Column("label_url", Text),
    Column("refusal", Text),
    Column("intercepted", Boolean, nullable=False, server_default="false"),
    # The number of the update that the state comes from.
    Column("courier_sequence", Integer, nullable=False, server_default="0"),
    Column("undamaged", Boolean),
    Column("requested_at", time_column(), nullable=False),
    Column("ended_at", time_column()),
    # When the courier is asked about it if nothing is heard until then; None: there is nothing to hear.
    Column("poll_at", time_column()),
    schema="courier",
)

#: Only grows: each update once, by the courier's own id.
TRACKING_UPDATES = Table(
    "tracking_updates",
    METADATA,
    Column("update_id", Text, primary_key=True),
    Column("workflow_id", uuid_column(), nullable=False),
    Column("shipment_id", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("at", time_column(), nullable=False),
    # How it came here: webhook or poll.
    Column("came_by", Text, nullable=False),
    Column("received_at", time_column(), nullable=False),
    Column("body", BYTEA, nullable=False),
    schema="courier",
)

OPEN_COMMAND = Table(
    "open_commands",
    METADATA,
    Column("command_id", uuid_column(), primary_key=True),
    Column("workflow_id", uuid_column(), nullable=False),
    Column("type", Text, nullable=False),
    Column("begun_at", time_column(), nullable=False),
    # When the sweeper may take it up; None: it waits for the end of its shipment.
    Column("due_at", time_column()),
    Column("headers", JSONB, nullable=False),
    Column("body", BYTEA, nullable=False),
    schema="courier",
)
