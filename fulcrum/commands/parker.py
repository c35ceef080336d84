"""How a parked message gets from its RabbitMQ queue into Postgres."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import structlog
from aio_pika.abc import AbstractIncomingMessage
from sqlalchemy import func, select

from fulcrum.commands.delivery import (
    ERROR,
    ERROR_CLASS,
    PARKED_AT,
    REASON,
    TRACEBACK,
    attempt_of,
    log_context,
    plain_headers,
)
from fulcrum.commands.fingerprint import fingerprint
from fulcrum.commands.retry import pause_before_try
from fulcrum.commands.subscription import Subscription, is_stale
from fulcrum.commands.topology import Topology
from fulcrum.errors import Retryable
from fulcrum.settings import Settings
from fulcrum.store.bulk import arrays, insert_rows
from fulcrum.store.database import Database
from fulcrum.store.relations import PARKED_MESSAGES
from fulcrum.telemetry.logs import bound
from fulcrum.telemetry.metrics import messages_parked
from fulcrum.wire.headers import Envelope

log = structlog.get_logger()

_ROOT = UUID("5e0c9a55-0a3e-5f0e-8f3f-6a1f6d1b4a77")
_BATCH = 20
#: Seconds between counts of what waits for an operator, who works in another process.
_COUNT_EVERY = 15.0
_COLUMNS = (
    "id",
    "parked_at",
    "service",
    "message_id",
    "type",
    "workflow_id",
    "queue",
    "reason",
    "error_class",
    "error",
    "fingerprint",
    "attempts",
    "headers",
    "body",
    "decoded",
)
_INSERT = insert_rows(PARKED_MESSAGES, _COLUMNS).on_conflict_do_nothing()


def parked_row(
    service: str, queue: str, message: AbstractIncomingMessage, decoded: dict[str, Any] | None, now: datetime
) -> dict[str, Any]:
    """What is kept of ``message``. Its id is computed, so that parking it twice makes one row."""
    headers = {name: storable(value) for name, value in plain_headers(message.headers).items()}
    envelope = Envelope.from_amqp(headers)
    body = bytes(message.body)
    kind = envelope.type or storable(message.type or "") or "unknown"
    message_id = envelope.message_id or storable(message.message_id or "") or "unknown"
    dead = _death(message)
    reason = headers.get(REASON) or dead.get("reason", "unknown")
    error_class = headers.get(ERROR_CLASS, "") or "BrokerDeadLetter"
    error = headers.get(ERROR) or f"RabbitMQ gave it up: {reason}"
    # The moment of parking tells one parking of a message from the next, and stays the same on redelivery.
    moment = headers.get(PARKED_AT) or dead.get("time", "")
    digest = hashlib.sha256(body).hexdigest()
    return {
        "id": str(uuid5(_ROOT, "\n".join((service, message_id, moment, reason, digest)))),
        "parked_at": told_time(moment) or now,
        "service": service,
        "message_id": message_id,
        "type": kind,
        "workflow_id": told_uuid(envelope.workflow_id),
        "queue": queue,
        "reason": reason,
        "error_class": error_class,
        "error": error,
        "fingerprint": fingerprint(kind, error_class, error, headers.get(TRACEBACK, "")),
        "attempts": attempt_of(headers),
        "headers": headers,
        "body": body,
        "decoded": decoded,
    }


def storable(value: str) -> str:
    """``value`` without what Postgres refuses in text: NUL and halves of surrogate pairs."""
    return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _death(message: AbstractIncomingMessage) -> dict[str, str]:
    """Reason and time of the broker's own dead-lettering, when it was the broker that parked it."""
    deaths = (message.headers or {}).get("x-death")
    if not isinstance(deaths, list) or not deaths or not isinstance(deaths[0], dict):
        return {}
    return {name: str(deaths[0].get(name, "")) for name in ("reason", "time")}


def told_time(text: str) -> datetime | None:
    """The time that a header tells, or None when it tells none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def told_uuid(text: str | None) -> str | None:
    """The id that a header tells, or None when it is no UUID."""
    try:
        return str(UUID(text)) if text else None
    except ValueError:
        return None


def jsonable(value: object) -> Any:
    """A decoded message as JSON: bytes as their length, times as ISO 8601."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [jsonable(each) for each in value]
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, datetime):
        return value.isoformat()
    return storable(value) if isinstance(value, str) else value


class Parker:
    """Moves what is parked for ``service`` into ``ops.parked_messages``. One per process of the service.

    ``read`` decodes a body for the people who look at it; without it, or when it fails, they see bytes only.
    """

    def __init__(
        self,
        db: Database,
        settings: Settings,
        service: str,
        read: Callable[[bytes], Awaitable[object]] | None = None,
    ) -> None:
        self._db = db
        self._service = service
        self._read = read
        self._queue = Topology(settings.namespace).queue(service)
        self._waiting: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        parked_queue = Topology(settings.namespace).parked_queue(service)
        self._subscription = Subscription(settings, parked_queue, _BATCH, self._waiting.put_nowait)

    @property
    def ready(self) -> bool:
        """Whether parked messages are being taken."""
        return self._subscription.ready

    async def run(self, stop: asyncio.Event) -> None:
        """Park until ``stop``. Postgres or RabbitMQ being away is waited out."""
        async with asyncio.TaskGroup() as group:
            work = group.create_task(self._work())
            await self._subscription.run(stop, _nothing)
            work.cancel()

    async def _work(self) -> None:
        tries = 0
        while True:
            await self._count()
            try:
                async with asyncio.timeout(_COUNT_EVERY):
                    messages = [await self._waiting.get()]
            except TimeoutError:
                continue
            while not self._waiting.empty() and len(messages) < _BATCH:
                messages.append(self._waiting.get_nowait())
            while messages := [message for message in messages if not is_stale(message)]:
                try:
                    await self._store(messages)
                except Exception as error:
                    tries += 1
                    pause = pause_before_try(tries, random.random())  # noqa: S311
                    trace = {} if isinstance(error, Retryable) else {"exc_info": error}
                    log.warning("parking.failed", error=str(error), retry_in=round(pause, 3), **trace)
                    await asyncio.sleep(pause)
                else:
                    tries = 0
                    break

    async def _store(self, messages: Sequence[AbstractIncomingMessage]) -> None:
        now = datetime.now(UTC)
        rows = [
            parked_row(self._service, self._queue, message, await self._decode(message), now)
            for message in messages
        ]
        await self._db.execute(_INSERT, arrays(_COLUMNS, rows))
        for message, row in zip(messages, rows, strict=True):
            with bound(**{**log_context(row["headers"], None), "message_id": row["message_id"]}):
                log.info("message.kept", parked_id=row["id"], fingerprint=row["fingerprint"])
            await message.ack()

    async def _decode(self, message: AbstractIncomingMessage) -> dict[str, Any] | None:
        if self._read is None:
            return None
        try:
            decoded: dict[str, Any] = jsonable(await self._read(bytes(message.body)))
        except Exception:
            return None  # that it cannot be read may be the very reason why it is here
        return decoded

    async def _count(self) -> None:
        counted = select(func.count().label("n")).where(
            PARKED_MESSAGES.c.service == self._service, PARKED_MESSAGES.c.status == "parked"
        )
        try:
            row = await self._db.one(counted)
        except Retryable:
            return  # the gauge is right again after the next message
        messages_parked.labels(self._service).set(row["n"] if row else 0)


async def _nothing() -> None:
    """What is not stored yet stays on the queue."""
