"""When is an event finished, and what if it never can be?

An event is finished when everything it caused is acknowledged; only then may its offset be committed.
A failed acknowledgement stops the worker on purpose: a restart resumes from the lowest unfinished
event, which is safe, while going on would not be. An event that no handler can take goes to the
dead-letter topic beside its own, with the reason, and counts as finished once it is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import faust
import structlog
from faust.types import EventT

from fulcrum.errors import Corrupt, Unavailable
from fulcrum.saga.messages import DecisionMade
from fulcrum.telemetry import metrics
from fulcrum.wire.codec import Codec, Message
from fulcrum.wire.topics import Topics

log = structlog.get_logger()

_RETRY_SECONDS = 1.0


def finish_when_safe(
    app: faust.App,
    event: EventT[Any],
    futures: Sequence[asyncio.Future[Any]],
    then: Callable[[], None] | None = None,
) -> None:
    """Acknowledge ``event`` once all ``futures`` are done; a failed one crashes the app."""
    waiting = len(futures)

    def done(future: asyncio.Future[Any]) -> None:
        nonlocal waiting
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or error is not None:
            log.error("acknowledgement.failed", topic=event.message.topic, error=repr(error))
            app.loop.create_task(app.crash(error or asyncio.CancelledError()))
            return
        waiting -= 1
        if waiting == 0:
            if then is not None:
                then()
            event.ack()

    for future in futures:
        future.add_done_callback(done)
    if not futures:
        event.ack()


async def feed(
    app: faust.App, stream: faust.StreamT[bytes], handle: Callable[[EventT[Any]], Awaitable[None]]
) -> None:
    """Hand every event of ``stream`` to ``handle``, which says itself when the event is finished."""
    unacknowledged = cast("faust.Stream[bytes]", stream).noack()
    async for event in cast("faust.Stream[bytes]", unacknowledged).events():
        await crash_on_error(app, handle(event))


async def crash_on_error(app: faust.App, handling: Awaitable[None]) -> None:
    """Await ``handling``; an error stops the worker, because Faust would skip the event and go on."""
    try:
        await handling
    except Exception as error:
        log.exception("agent.failed")
        await app.crash(error)
        raise


async def read_patiently(codec: Codec, event: EventT[Any]) -> Message:
    """Decode the event, waiting for the registry as long as it is away; Corrupt when it cannot be read."""
    value = event.message.value
    if value is None:
        raise Corrupt("the record has no value")
    while True:
        try:
            return await codec.read(value)
        except Unavailable as error:
            log.warning("registry.unavailable", error=str(error), retry_in=_RETRY_SECONDS)
            await asyncio.sleep(_RETRY_SECONDS)


async def read_decision(
    app: faust.App, topics: Topics, codec: Codec, event: EventT[Any], consumer: str
) -> DecisionMade | None:
    """The decision that ``event`` holds; None when it holds none and lies in the dead-letter topic now."""
    try:
        decision = await read_patiently(codec, event)
        if not isinstance(decision, DecisionMade):
            raise Corrupt(f"{type(decision).__name__} is no decision")
    except Corrupt as error:
        await dead_letter(app, topics, event, str(error), consumer)
        return None
    return decision


def _pairs(headers: Any) -> list[tuple[str, bytes]]:
    """Headers as pairs; aiokafka and Faust hand them over in either form."""
    return list(headers.items() if isinstance(headers, Mapping) else headers or ())


async def dead_letter(app: faust.App, topics: Topics, event: EventT[Any], error: str, consumer: str) -> None:
    """Copy the event's bytes to its topic's dead-letter topic, wait for the broker, then acknowledge."""
    message = event.message
    headers = [
        *_pairs(message.headers),
        ("fulcrum-dlq-error", error.encode()[:4000]),
        ("fulcrum-dlq-topic", message.topic.encode()),
        ("fulcrum-dlq-partition", str(message.partition).encode()),
        ("fulcrum-dlq-offset", str(message.offset).encode()),
        ("fulcrum-dlq-consumer", consumer.encode()),
        ("fulcrum-dlq-at", datetime.now(UTC).isoformat().encode()),
    ]
    while True:
        try:
            await app.producer.send_and_wait(
                topics.dlq(message.topic),
                message.key,
                message.value,
                partition=message.partition,
                timestamp=None,
                headers=headers,
            )
            break
        except Exception as failure:
            # Nothing may be skipped: without the copy the event stays unfinished and is read again.
            log.warning("dead_letter.retry", topic=message.topic, error=repr(failure))
            await asyncio.sleep(_RETRY_SECONDS)
    metrics.events_dead_lettered.labels(topic=message.topic, consumer=consumer).inc()
    log.error(
        "event.dead_lettered",
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        error=error,
    )
    event.ack()
