"""What intake's own relations look like to SQLAlchemy. The migrations create them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table, Text
from sqlalchemy.dialects.postgresql import BYTEA, JSON

from fulcrum.store.relations import METADATA, messaging, time_column, uuid_column

INTAKE = messaging("intake")

#: Accepted intents. The key is computed from tenant and ``Idempotency-Key``. ``last_sequence`` counts the
#: events on the workflow's stream; ``check_at`` is None once the workflow was seen to have started.
#: ``terms``, in the order of the lines, and ``holds`` are None where nothing was agreed.
intents = Table(
    "intents",
    METADATA,
    Column("workflow_id", uuid_column(), primary_key=True),
    Column("intent_id", uuid_column()),
    Column("tenant", Text),
    Column("idempotency_key", Text),
    Column("fingerprint", BYTEA),
    Column("customer_ref", Text),
    Column("lines", JSON),
    Column("amount_minor", BigInteger),
    Column("currency", Text),
    Column("payment_method", Text),
    Column("ship_to", Text),
    Column("definition", Text),
    Column("correlation_id", Text),
    Column("accepted_at", time_column()),
    Column("last_sequence", BigInteger),
    Column("check_at", time_column()),
    Column("repairs", Integer),
    Column("terms", JSON(none_as_null=True)),
    Column("promised_at", time_column()),
    Column("holds", JSON(none_as_null=True)),
    schema="intake",
)

#: What operators asked for, each with its number on the stream of the workflow. ``signal`` and ``payload``
#: are those of the verb ``signal``.
requests = Table(
    "requests",
    METADATA,
    Column("workflow_id", uuid_column(), primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("event_id", uuid_column()),
    Column("verb", Text),
    Column("step", Text),
    Column("result", Text),
    Column("seconds", BigInteger),
    Column("signal", Text),
    Column("payload", Text),
    Column("reason", Text),
    Column("actor", Text),
    Column("correlation_id", Text),
    Column("requested_at", time_column()),
    schema="intake",
)

#: Accepted stock receipts. The key is computed from SKU and ``Idempotency-Key``.
receipts = Table(
    "receipts",
    METADATA,
    Column("command_id", uuid_column(), primary_key=True),
    Column("sku", Text),
    Column("idempotency_key", Text),
    Column("fingerprint", BYTEA),
    Column("quantity", BigInteger),
    Column("reference", Text),
    Column("correlation_id", Text),
    Column("accepted_at", time_column()),
    schema="intake",
)
