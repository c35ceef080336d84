"""Which relations hold the payments, and the commands whose provider call has no recorded outcome?"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table, Text
from sqlalchemy.dialects.postgresql import BYTEA, JSONB

from fulcrum.store.relations import METADATA, messaging, time_column, uuid_column

PAYMENTS = messaging("payments")

PAYMENT = Table(
    "payments",
    METADATA,
    Column("workflow_id", uuid_column(), primary_key=True),
    Column("state", Text, nullable=False),
    # How many events of the payments stream this workflow has.
    Column("sequence", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("authorize_key", uuid_column()),
    Column("amount_minor", BigInteger),
    Column("currency", Text),
    Column("authorization_id", Text),
    Column("decline_reason", Text),
    Column("void_key", uuid_column()),
    Column("capture_key", uuid_column()),
    Column("refund_key", uuid_column()),
    # What the open capture or refund asks for.
    Column("asked_minor", BigInteger),
    Column("captured_minor", BigInteger, nullable=False, server_default="0"),
    Column("refunded_minor", BigInteger, nullable=False, server_default="0"),
    # The latest hold that was asked for in place of a lapsed one, and the one that it took the place of.
    Column("reauthorize_key", uuid_column()),
    Column("lapsed_id", Text),
    # The latest reversal that asked for a refund.
    Column("reverse_key", uuid_column()),
    Column("reverse_attempt", Integer, nullable=False, server_default="0"),
    Column("expires_at", time_column()),
    Column("requested_at", time_column(), nullable=False),
    Column("settled_at", time_column()),
    schema="payments",
)

OPEN_COMMAND = Table(
    "open_commands",
    METADATA,
    Column("command_id", uuid_column(), primary_key=True),
    Column("type", Text, nullable=False),
    Column("begun_at", time_column(), nullable=False),
    # When the sweeper may take it up.
    Column("due_at", time_column(), nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("body", BYTEA, nullable=False),
    schema="payments",
)
