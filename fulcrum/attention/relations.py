"""Which relations keep the workflows that do not move, and who looks for them."""

from __future__ import annotations

from sqlalchemy import Column, Integer, Table, Text

from fulcrum.store.relations import METADATA, time_column, uuid_column

#: A row for each rule that a workflow matches; gone when it matches no longer. ``seen_at`` is the last look.
ATTENTION = Table(
    "attention",
    METADATA,
    Column("workflow_id", uuid_column(), primary_key=True),
    Column("rule", Text, primary_key=True),
    Column("since", time_column(), nullable=False),
    Column("seen_at", time_column(), nullable=False),
    Column("detail", Text, nullable=False),
    Column("suggestion", Text, nullable=False),
    schema="ops",
)

#: One row: the process that looks, and until when no other one may.
LEASE = Table(
    "attention_lease",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("owner", Text),
    Column("expires_at", time_column(), nullable=False),
    schema="ops",
)
