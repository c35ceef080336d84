"""How do records reach Kafka so that each key's first occurrences stay in order? What the relay sends with.

librdkafka's idempotent producer never gives a record up by itself (no timeout of its own, and a failure
that would leave a gap is fatal), so what the broker has of a partition is always a prefix of what was
sent. When the batch's deadline passes, or something is fatal, the producer is thrown away and a new one
starts behind the acknowledged prefix: records may then be in Kafka twice, but never out of order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fulcrum.errors import Misconfigured, Rejected, Unavailable
from fulcrum.settings import Settings
from fulcrum.telemetry import metrics

log = structlog.get_logger()

_DEADLINE_SECONDS = 10.0
#: How often a batch under way looks at its deadline and at failures.
_LOOK_SECONDS = 0.25
_QUEUE = 100_000
#: A batch that the broker refuses goes again with its first eighth, until one record stands alone.
_NARROWER = 8

#: Reports on records that a failure elsewhere, or we ourselves, removed from the queue.
_SWEPT_AWAY = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})
#: Nothing but another record will help against these.
_UNSENDABLE = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
    }
)
#: Nothing but an operator will help against these.
_MISCONFIGURED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)


class Record(NamedTuple):
    """What is sent: the key decides the partition, as Java's murmur2 does."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class Unsendable(Rejected):
    """Kafka will never take the first record of the batch; ``reason`` says why. Park it, or its key stops."""

    def __init__(self, record: Record, reason: str) -> None:
        super().__init__(f"{len(record.value)} bytes for {record.topic} cannot be sent: {reason}")
        self.record = record
        self.reason = reason


class _Batch:
    """What became of the records of one attempt."""

    def __init__(self, size: int) -> None:
        self._acked = bytearray(size)
        #: By index: what the broker, or librdkafka, says of a record that it does not take.
        self.errors: dict[int, KafkaError] = {}

    def delivered(self, index: int, error: KafkaError | None, _: Message | None = None) -> None:
        """Note the report on one record. One that was only swept away with others has no error of its own."""
        if error is None:
            self._acked[index] = 1
        elif error.code() not in _SWEPT_AWAY:
            self.errors[index] = error

    def prefix(self) -> int:
        """How many leading records the broker has acknowledged."""
        hole = self._acked.find(0)
        return len(self._acked) if hole < 0 else hole

    def unsendable(self) -> int | None:
        """The first record that can never be sent."""
        return min((i for i, error in self.errors.items() if error.code() in _UNSENDABLE), default=None)


def _always() -> bool:
    return True


class KafkaProducer:
    """Sends batches one after another from a thread of its own; the event loop is never blocked."""

    def __init__(self, settings: Settings, deadline: float = _DEADLINE_SECONDS, queue: int = _QUEUE) -> None:
        self._bootstrap = settings.kafka_bootstrap
        self._deadline = deadline
        self._queue = queue
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka-producer")
        self._producer: Producer | None = None
        self._last_error: KafkaError | None = None
        self._closing = False

    async def send_batch(self, rows: Sequence[Record], may_send: Callable[[], bool] = _always) -> int:
        """Send ``rows`` in order and return how many leading ones Kafka has acknowledged, at least one.

        When it has none: ``Unsendable`` if the first row can never be sent, ``Misconfigured`` if its topic
        is missing or forbidden, ``Unavailable`` if the deadline passed. Call it again from the first row
        that is not acknowledged. Rows behind a failure may be in Kafka too; sending them again is right.

        ``may_send`` is asked in the producer's thread, before each record and then several times a second.
        Once it says no, what has not left is purged.
        """
        if not rows:
            return 0
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._send, list(rows), may_send
        )

    async def close(self) -> None:
        """Give up what is under way and close the connections. Idempotent."""
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    # --- in the producer's thread -----------------------------------------------------------------

    def _close(self) -> None:
        self._closing = True  # a batch under way ends at its next look
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._discard()

    def _send(self, rows: list[Record], may_send: Callable[[], bool]) -> int:
        stop = time.monotonic() + self._deadline
        while True:
            batch = _Batch(len(rows))
            self._attempt(rows, batch, stop, may_send)
            if batch.prefix() == len(rows):
                return len(rows)
            allowed = may_send()
            reason = self._reason(batch) if allowed else "sending is no longer allowed"
            self._rebuild(batch, reason)
            if not allowed and not batch.prefix():
                raise Unavailable(f"a batch was given up: {reason}")
            unsendable = batch.unsendable()
            if unsendable is None:
                return batch.prefix() or self._nothing_acknowledged(rows[0], batch, reason)
            if len(rows) == 1:
                raise Unsendable(rows[0], batch.errors[0].str())
            # What stands before it may have been swept away with it, so it goes again without it. The broker
            # refuses records by the batch that librdkafka made of them: only one that went alone is guilty.
            rows = rows[: unsendable or max(1, len(rows) // _NARROWER)]

    def _attempt(self, rows: list[Record], batch: _Batch, stop: float, may_send: Callable[[], bool]) -> None:
        producer = self._open()

        def over() -> bool:
            return bool(batch.errors) or self._closing or time.monotonic() >= stop or not may_send()

        for index, row in enumerate(rows):
            if not may_send():
                return
            while not self._enqueued(producer, row, index, batch):
                if over():
                    return
                self._serve(partial(producer.poll, _LOOK_SECONDS))
        # A flush does not wait for the linger, which only helps when several batches overlap.
        while self._serve(partial(producer.flush, _LOOK_SECONDS)) and not over():
            pass

    def _serve(self, serve: Callable[[], int]) -> int:
        """Let the reports in; how many records are still without one, or how many reports came."""
        try:
            return serve()
        except (KafkaException, SystemError) as error:
            # A fatal error comes as an exception in the middle of the reports, which go on at the next call;
            # when it meets one of our callbacks, Python says SystemError and names it as the cause, or names
            # none when the client has lost it on the way. What became of the records still comes as reports.
            cause = error if isinstance(error, KafkaException) else error.__cause__
            if isinstance(cause, KafkaException):
                self._last_error = cause.args[0]
            elif cause is not None:
                raise
            return 1

    def _enqueued(self, producer: Producer, row: Record, index: int, batch: _Batch) -> bool:
        """Hand a record to librdkafka; False when its queue is full or the record is refused at once."""
        try:
            producer.produce(
                row.topic,
                row.value,
                row.key,
                headers=[*row.headers],
                on_delivery=partial(batch.delivered, index),
            )
        except BufferError:
            return False
        except KafkaException as error:
            batch.delivered(index, error.args[0])
            return False
        return True

    def _open(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(
                {
                    "bootstrap.servers": self._bootstrap,
                    "client.id": "fulcrum-relay",
                    "enable.idempotence": True,
                    "enable.gapless.guarantee": True,
                    "acks": "all",
                    "message.timeout.ms": 0,
                    # librdkafka's own default is CRC32: the same key would lie elsewhere than Faust's tables.
                    "partitioner": "murmur2_random",
                    "compression.type": "lz4",
                    "linger.ms": 5,
                    "queue.buffering.max.messages": self._queue,
                    # The default of 10 s would outlast most restarts of a broker.
                    "reconnect.backoff.max.ms": 1000,
                    # A missing topic is reported within the deadline, and not after 30 s.
                    "topic.metadata.propagation.max.ms": 2000,
                    # Its view of lost connections comes as the reason of our own errors.
                    "log_level": 2,
                    "error_cb": self._noted,
                },
                logger=logging.getLogger("librdkafka"),
            )
        return self._producer

    def _noted(self, error: KafkaError) -> None:
        self._last_error = error

    def _rebuild(self, batch: _Batch, reason: str) -> None:
        metrics.kafka_producer_rebuilds.inc()
        log.warning("producer.rebuilt", acknowledged=batch.prefix(), reason=reason)
        self._discard()

    def _discard(self) -> None:
        if self._producer is not None:
            self._producer.purge()
            self._serve(partial(self._producer.flush, _LOOK_SECONDS))
            self._producer = None
            self._last_error = None

    def _reason(self, batch: _Batch) -> str:
        error = next(iter(batch.errors.values()), self._last_error)
        return error.str() if error is not None else f"no answer within {self._deadline:g} s"

    def _nothing_acknowledged(self, row: Record, batch: _Batch, reason: str) -> int:
        if any(error.code() in _MISCONFIGURED for error in batch.errors.values()):
            raise Misconfigured(
                f"topic {row.topic} cannot be written to: {reason}; "
                "run `fulcrum topics create`, and check what this client may write"
            )
        raise Unavailable(
            f"Kafka at {self._bootstrap} acknowledged nothing ({reason}); "
            "check FULCRUM_KAFKA_BOOTSTRAP and that the broker runs"
        )
