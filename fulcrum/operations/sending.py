"""How does a parked message leave again: a command to its queue, an event to the topic it came from?"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any

from fulcrum.commands import accounts
from fulcrum.commands.delivery import OWN_HEADERS
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.errors import Rejected
from fulcrum.operations.moves import EVENTS
from fulcrum.settings import Settings
from fulcrum.store.database import Database, Row
from fulcrum.wire.producer import KafkaProducer, Record

#: Says in an edited message which one it was made from.
EDITED_FROM = "fulcrum-edited-from"
#: Headers that the dead-letter topic added to those of the event.
DLQ_HEADERS = "fulcrum-dlq-"


class Sender:
    """RabbitMQ and Kafka, each connected when first needed."""

    def __init__(
        self, db: Database, settings: Settings, publisher: Callable[[], Awaitable[CommandPublisher]]
    ) -> None:
        self._db = db
        self._settings = settings
        self._publisher = publisher
        self._producer: KafkaProducer | None = None

    async def send(self, message: Row) -> None:
        """Send a row of the parked messages, and return once it is safe.

        Unavailable when that is not known, and may be tried again: it has the same id. Rejected when it can
        never be sent.
        """
        if message["service"] == EVENTS:
            await self._to_kafka(message)
            return
        headers = {name: value for name, value in message["headers"].items() if name not in OWN_HEADERS}
        publisher = await self._publisher()
        await publisher.publish(
            message["service"], message["body"], headers, message["message_id"], message["type"]
        )
        await accounts.enter_published(
            self._db, message["message_id"], message["service"], message["type"], message["workflow_id"]
        )

    async def _to_kafka(self, message: Row) -> None:
        record = record_of(message)
        if self._producer is None:
            self._producer = KafkaProducer(self._settings)
        await self._producer.send_batch([record])

    async def close(self) -> None:
        """Close the connection to Kafka; RabbitMQ's belongs to whoever opened it."""
        if self._producer is not None:
            await self._producer.close()


def record_of(message: Row) -> Record:
    """The event as it came: same topic, key, headers and bytes. Rejected when it had no key or no value."""
    origin: dict[str, Any] = message["origin"]
    if origin["key"] is None or origin["null"]:
        raise Rejected("a record without key or value is no event and is not sent again; discard it")
    headers = [(name, base64.b64decode(value)) for name, value in origin["headers"]]
    return Record(origin["topic"], base64.b64decode(origin["key"]), message["body"], headers)
