"""Which relations hold the stock, the reservations and the ledger?"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, Table, Text

from fulcrum.store.relations import METADATA, messaging, time_column, uuid_column

INVENTORY = messaging("inventory")

STOCK = Table(
    "stock",
    METADATA,
    Column("sku", Text, primary_key=True),
    Column("available", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("consumed", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    schema="inventory",
)

RESERVATIONS = Table(
    "reservations",
    METADATA,
    Column("workflow_id", uuid_column(), primary_key=True),
    Column("state", Text, nullable=False),
    # How many events of the inventory stream this workflow has.
    Column("sequence", BigInteger, nullable=False),
    # The command that brought the reservation into its state.
    Column("command_id", uuid_column(), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("reason", Text),
    Column("expires_at", time_column()),
    # Nothing may be consumed any more.
    Column("closed", Boolean, nullable=False, server_default="false"),
    Column("changed_at", time_column(), nullable=False),
    schema="inventory",
)

RESERVATION_LINES = Table(
    "reservation_lines",
    METADATA,
    Column("workflow_id", uuid_column(), primary_key=True),
    Column("sku", Text, primary_key=True),
    # What was held at first, and what of it has left.
    Column("quantity", BigInteger, nullable=False),
    Column("consumed", BigInteger, nullable=False, server_default="0"),
    schema="inventory",
)

#: Only grows. The columns are changes: their sums are the stock.
LEDGER = Table(
    "ledger",
    METADATA,
    Column("command_id", uuid_column(), primary_key=True),
    Column("sku", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("available", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("consumed", BigInteger, nullable=False),
    Column("workflow_id", uuid_column()),
    Column("reference", Text),
    Column("at", time_column(), nullable=False),
    schema="inventory",
)
