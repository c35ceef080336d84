"""What the read model's relations look like to SQLAlchemy. The migrations create them.

``workflow_runs``, ``timeline`` and ``run_keys`` make a *generation*, of which there may be several: the live
one lies in the schema ``read_model``, any other in a schema of its own with the same names in it.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, Table, Text, func
from sqlalchemy.dialects.postgresql import JSON

from fulcrum.store.relations import METADATA, time_column, uuid_column

#: The projection that folds the journal into workflow runs and their timelines.
WORKFLOWS = "workflows"
#: Where people read.
LIVE_SCHEMA = "read_model"
KEY_KINDS = ("correlation_id", "customer_ref", "sku")

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
    Column("step", Text),
    Column("promised_at", time_column()),
    Column("holds", JSON),
    Column("intercept", Text),
    schema=LIVE_SCHEMA,
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
    schema=LIVE_SCHEMA,
)

#: What people look workflows up by, beside their own ids: ``kind`` says what ``key`` is (``KEY_KINDS``).
#: A workflow's keys never change, so they are written once and not with every decision.
run_keys = Table(
    "run_keys",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("started_at", time_column(), primary_key=True),
    Column("workflow_id", uuid_column(), primary_key=True),
    schema=LIVE_SCHEMA,
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
    schema=LIVE_SCHEMA,
)

#: ``live`` is the generation in LIVE_SCHEMA, ``previous`` the one that a rollback goes back to. ``epoch``
#: grows with each swap.
projections = Table(
    "projections",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("live", Integer, nullable=False),
    Column("previous", Integer),
    Column("epoch", BigInteger, nullable=False),
    schema=LIVE_SCHEMA,
)

#: ``wanted`` is what the process that builds the generation is told to do: run, pause or abort.
generations = Table(
    "generations",
    METADATA,
    Column("projection", Text, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("status", Text, nullable=False),
    Column("wanted", Text, nullable=False, server_default="run"),
    Column("indexed", Boolean, nullable=False, server_default="false"),
    Column("replay_from", time_column()),
    Column("decisions", BigInteger, nullable=False, server_default="0"),
    Column("error", Text),
    Column("created_at", time_column(), nullable=False, server_default=func.now()),
    Column("updated_at", time_column(), nullable=False, server_default=func.now()),
    schema=LIVE_SCHEMA,
)

#: The first offset that a generation has not read; written in the transaction of the rows.
generation_offsets = Table(
    "generation_offsets",
    METADATA,
    Column("projection", Text, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("next_offset", BigInteger, nullable=False),
    schema=LIVE_SCHEMA,
)


@cache
def in_schema(relation: Table, schema: str) -> Table:
    """``relation`` as it is in another schema."""
    return relation.to_metadata(MetaData(), schema=schema)
