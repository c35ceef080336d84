"""What the read model's relations look like to SQLAlchemy. The migrations create them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, Text
from sqlalchemy.dialects.postgresql import JSON

from fulcrum.store.relations import METADATA, time_column, uuid_column

workflow_runs = Table(
    "workflow_runs",
    METADATA,
    Column("workflow_id", uuid_column(), primary_key=True),
    Column("intent_id", uuid_column()),
    Column("tenant", Text),
    Column("customer_ref", Text),
    Column("definition", Text),
    Column("status", Text),
    Column("version", BigInteger),
    Column("reason", Text),
    Column("lines", JSON),
    Column("amount_minor", BigInteger),
    Column("currency", Text),
    Column("correlation_id", Text),
    Column("started_at", time_column()),
    Column("updated_at", time_column()),
    Column("finished_at", time_column()),
    Column("steps", JSON),
    schema="read_model",
)

timeline = Table(
    "timeline",
    METADATA,
    Column("workflow_id", uuid_column(), primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("at", time_column()),
    Column("status_before", Text),
    Column("status", Text),
    Column("step", Text),
    Column("cause", JSON),
    Column("commands", JSON),
    Column("ignored", Text),
    Column("reason", Text),
    schema="read_model",
)

#: A view over inventory's own relation: how much of each SKU there is, and where it went.
stock = Table(
    "stock",
    METADATA,
    Column("sku", Text, primary_key=True),
    Column("available", BigInteger),
    Column("reserved", BigInteger),
    Column("consumed", BigInteger),
    Column("received", BigInteger),
    Column("version", BigInteger),
    schema="read_model",
)
