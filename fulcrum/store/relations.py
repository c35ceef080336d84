"""Which tables carry messages in and out of each service, and which one keeps what could not be handled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import BYTEA, JSONB

#: Every relation of Fulcrum; a module that declares more adds to it.
METADATA = MetaData()

#: The schema of each service that carries out commands, with its inbox.
SCHEMA_OF: Mapping[str, str] = {
    "payment": "payments",
    "inventory": "inventory",
    "warehouse": "warehouse",
    "courier": "courier",
}
#: Services that may answer a command long after they took it. Once it is in their inbox, the queue has done
#: its part, and their own relations say what is open.
ANSWER_LATER = frozenset({"warehouse", "courier"})
#: The schemas that own an outbox, a lease and an inbox.
SERVICE_SCHEMAS: tuple[str, ...] = ("intake", *SCHEMA_OF.values())


def uuid_column() -> Uuid[str]:
    """A ``uuid`` that Python sees as text."""
    return Uuid(as_uuid=False)


def time_column() -> DateTime:
    """A ``timestamptz``; Python sees an aware datetime in UTC."""
    return DateTime(timezone=True)


@dataclass(frozen=True)
class ServiceRelations:
    """The messaging tables of one service."""

    schema: str
    outbox: Table
    outbox_parked: Table
    lease: Table
    inbox: Table


@cache
def messaging(schema: str) -> ServiceRelations:
    """The messaging tables in ``schema``."""
    return ServiceRelations(schema, _outbox(schema), _parked(schema), _lease(schema), _inbox(schema))


def _outbox(schema: str) -> Table:
    """Messages that were decided and are not yet acknowledged by Kafka; an acknowledged one is deleted."""
    return Table(
        "outbox",
        METADATA,
        # One shard today; a second one is a second lease and a second relay, not another table.
        Column("shard", SmallInteger, primary_key=True, server_default="0"),
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("event_id", uuid_column(), nullable=False),
        Column("topic", Text, nullable=False),
        Column("key", BYTEA, nullable=False),
        Column("headers", JSONB, nullable=False),
        Column("value", BYTEA, nullable=False),
        Column("created_at", time_column(), nullable=False, server_default=func.clock_timestamp()),
        schema=schema,
    )


def _parked(schema: str) -> Table:
    """Outbox rows that Kafka will never take, and the later ones of the same key, which must not overtake."""
    return Table(
        "outbox_parked",
        METADATA,
        Column("shard", SmallInteger, primary_key=True),
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        Column("event_id", uuid_column(), nullable=False),
        Column("topic", Text, nullable=False),
        Column("key", BYTEA, nullable=False),
        Column("headers", JSONB, nullable=False),
        Column("value", BYTEA, nullable=False),
        Column("created_at", time_column(), nullable=False),
        Column("parked_at", time_column(), nullable=False, server_default=func.now()),
        Column("error", Text, nullable=False),
        schema=schema,
    )


def _lease(schema: str) -> Table:
    """Who may send a shard. ``epoch`` grows with each change of hands and fences the one before."""
    return Table(
        "outbox_lease",
        METADATA,
        Column("shard", SmallInteger, primary_key=True),
        Column("owner", Text),
        Column("epoch", BigInteger, nullable=False),
        Column("expires_at", time_column(), nullable=False),
        schema=schema,
    )


def _inbox(schema: str) -> Table:
    """Messages that took effect, per consumer, with the events that answered them."""
    return Table(
        "inbox",
        METADATA,
        Column("consumer", Text, primary_key=True),
        Column("message_id", uuid_column(), primary_key=True),
        Column("fingerprint", BYTEA, nullable=False),
        Column("received_at", time_column(), nullable=False, server_default=func.now()),
        # None until the outcome is known; then the outbox rows that a repeat emits again.
        Column("outcome", JSONB(none_as_null=True)),
        schema=schema,
    )


PARKED_MESSAGES = Table(
    "parked_messages",
    METADATA,
    Column("id", uuid_column(), primary_key=True),
    Column("parked_at", time_column(), nullable=False, server_default=func.now()),
    Column("service", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("workflow_id", uuid_column()),
    Column("queue", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("error_class", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("body", BYTEA, nullable=False),
    Column("decoded", JSONB(none_as_null=True)),
    Column("status", Text, nullable=False, server_default="parked"),
    Column("status_at", time_column(), nullable=False, server_default=func.now()),
    Column("actor", Text),
    Column("note", Text),
    # By the database's clock, so that parkings of one message can be put in order; ``parked_at`` is told.
    Column("kept_at", time_column(), nullable=False, server_default=func.clock_timestamp()),
    Column("operation_id", uuid_column()),
    Column("edited_from", uuid_column()),
    Column("edited_as", uuid_column()),
    # Where in Kafka it lay, for an event: topic, partition, offset, key and headers as they came.
    Column("origin", JSONB(none_as_null=True)),
    Column("body_deleted_at", time_column()),
    schema="ops",
)

#: Attempts of commands that failed, and the one that ended a row of failures. A command that succeeds at its
#: first attempt, as nearly all do, leaves nothing here.
ATTEMPTS = Table(
    "attempts",
    METADATA,
    # Text, because what nobody can read may have any id.
    Column("command_id", Text, primary_key=True),
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("started_at", time_column(), primary_key=True),
    Column("workflow_id", uuid_column()),
    Column("service", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("step", Text),
    Column("outcome", Text, nullable=False),
    Column("kind", Text),
    Column("error_class", Text),
    Column("error", Text),
    Column("duration_ms", Integer, nullable=False),
    Column("worker", Text, nullable=False),
    Column("next_due", time_column()),
    schema="ops",
)
