"""``python relaying.py <owner>``: a process that relays the outbox of intake, to be stopped or killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, Popen

from fulcrum.settings import Settings, load_settings
from fulcrum.store.database import Database
from fulcrum.store.outbox import OutboxRow
from fulcrum.store.relations import messaging
from fulcrum.store.relay import Relay, Send
from fulcrum.wire.producer import KafkaProducer, Record


def sender(producer: KafkaProducer) -> Send:
    """How a role's relay sends."""

    async def send(rows: Sequence[OutboxRow], may_send: Callable[[], bool]) -> int:
        records = [
            Record(
                row.topic, row.key, row.value, [(name, text.encode()) for name, text in row.headers.items()]
            )
            for row in rows
        ]
        return await producer.send_batch(records, may_send)

    return send


@contextmanager
def relaying(settings: Settings, owner: str, more: Mapping[str, str] | None = None) -> Iterator[Popen[bytes]]:
    """A relay in a process of its own; ``more`` is added to its environment. It is killed at the end."""
    mine = {
        "FULCRUM_NAMESPACE": settings.namespace,
        "FULCRUM_POSTGRES_DSN": settings.postgres_dsn,
        "FULCRUM_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
    }
    root = str(Path(__file__).parents[2])
    env = {**os.environ, **mine, "PYTHONPATH": root, **(more or {})}
    with Popen([sys.executable, __file__, owner], env=env, stdout=DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


async def _main(owner: str) -> None:
    settings = load_settings()
    db = await Database.open(settings.postgres_dsn, size=4)
    producer = KafkaProducer(settings)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await Relay(db, messaging("intake"), settings, owner, sender(producer)).run(stop)
    await producer.close()
    await db.close()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
