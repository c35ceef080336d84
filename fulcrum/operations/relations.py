"""Which relations keep operations, their items, and what people noted about a group of parked messages."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Integer, LargeBinary, Table, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB

from fulcrum.store.relations import METADATA, time_column, uuid_column

#: ``total = succeeded + failed + skipped + pending`` is a constraint: every change of an item's state changes
#: the counts in the same transaction.
OPERATIONS = Table(
    "operations",
    METADATA,
    Column("id", uuid_column(), primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("selection", JSONB, nullable=False),
    Column("arguments", JSONB, nullable=False),
    Column("rate", Double),
    Column("canary", Integer, nullable=False),
    Column("canary_until", time_column()),
    Column("stop_ratio", Double),
    Column("matched", Integer, nullable=False),
    Column("excluded", JSONB, nullable=False),
    Column("total", Integer, nullable=False),
    Column("succeeded", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0"),
    Column("skipped", Integer, nullable=False, server_default="0"),
    Column("pending", Integer, nullable=False),
    Column("why", Text),
    Column("history", JSONB, nullable=False),
    Column("created_at", time_column(), nullable=False, server_default=func.clock_timestamp()),
    Column("started_at", time_column()),
    Column("finished_at", time_column()),
    Column("lease_owner", Text),
    Column("lease_epoch", BigInteger, nullable=False, server_default="0"),
    Column("lease_until", time_column(), nullable=False, server_default=text("'-infinity'")),
    schema="ops",
)

ITEMS = Table(
    "operation_items",
    METADATA,
    Column("operation_id", uuid_column(), primary_key=True),
    Column("number", Integer, primary_key=True),
    # One of these two says what the item is about.
    Column("parked_id", uuid_column()),
    Column("workflow_id", uuid_column()),
    Column("service", Text, nullable=False),
    # Under which it is sent: its own, the new one of an edited message, or that of the request to a workflow,
    # which has none before it is asked.
    Column("message_id", Text),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("outcome", Text),
    Column("begun_at", time_column()),
    Column("ended_at", time_column()),
    schema="ops",
)

GROUPS = Table(
    "parked_groups",
    METADATA,
    Column("fingerprint", Text, primary_key=True),
    Column("note", Text, nullable=False),
    Column("owner", Text),
    Column("actor", Text, nullable=False),
    Column("updated_at", time_column(), nullable=False),
    schema="ops",
)
