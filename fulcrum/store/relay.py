"""How committed outbox rows reach Kafka, in order for each key, and then leave the table.

Whatever is in the table is unsent, lowest id first (``unsent``), and what Kafka acknowledged is soon deleted.
While a window is on its way, the next one is read and those before are deleted, of small ones several at a
time. A crash in between sends rows again, with the same event ids.

What may come late, from a process that slept through its lease, are copies of rows that it has read and not
deleted: the next leader reads the same rows first, so the first copy of each row keeps its place among those
of its key, whoever sent it (``docs/decisions/0011-late-copies-are-harmless.md``).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import structlog
from sqlalchemy import BigInteger, bindparam, delete, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from fulcrum import crashpoint
from fulcrum.errors import Rejected, Retryable, Unavailable
from fulcrum.settings import Settings
from fulcrum.store.database import Database, Row
from fulcrum.store.lease import RENEW_EVERY, Held, Lease
from fulcrum.store.outbox import OutboxRow, on_commit
from fulcrum.store.parked_keys import ParkedKeys
from fulcrum.store.relations import ServiceRelations
from fulcrum.store.statements import lasting
from fulcrum.store.unsent import Unsent, Window
from fulcrum.telemetry.metrics import outbox_lag_seconds, outbox_leader, outbox_sent, relay_errors

log = structlog.get_logger()

#: Sends rows in order and answers how many leading ones are acknowledged; it gives up as soon as the second
#: argument, which is called from any thread, says that the lease is no longer safe.
Send = Callable[[Sequence[OutboxRow], Callable[[], bool]], Awaitable[int]]

#: Seconds between reads when nothing woke us (another process commits, too), the same once nothing came for
#: ``_QUIET`` seconds, and between tries to take a lease that another holds.
_IDLE, _IDLE_LONG, _QUIET = 0.1, 0.5, 5.0
_STANDBY = 0.5
#: What is acknowledged is deleted when it is so many rows, or after so many seconds.
_DELETED_AT_ONCE, _DELETED_AFTER = 500, 0.1
_BACKOFF_FIRST, _BACKOFF_LAST = 0.1, 2.0


class Relay:
    """Sends the outbox of one service while it holds the lease. Rows of one key never overtake each other.

    ``send`` raises Rejected when the first row can never be sent: its key is parked then, with what the key
    emits later, and the other keys go on. Any other error is waited out.
    """

    def __init__(
        self, db: Database, relations: ServiceRelations, settings: Settings, owner: str, send: Send
    ) -> None:
        self._db = db
        self._service = relations.schema
        self._owner = f"{settings.namespace}/{owner}/{settings.instance}"
        self._send = send
        self._lease = Lease(db, relations, self._owner)
        self._parked_keys = ParkedKeys(db, relations)
        self._held: Held | None = None
        self._woken = asyncio.Event()
        self._answered = False
        self._deleting: asyncio.Task[None] | None = None
        #: Acknowledged rows that are still in the table, and since when the first of them is.
        self._sent: list[int] = []
        self._sent_since = 0.0
        self._unsent = Unsent(db, relations)
        outbox, lease = relations.outbox, relations.lease
        # A delete that is lost with the server costs a repeat, not an event: it need not wait for the disk.
        unhurried = select(func.set_config("synchronous_commit", "off", True)).scalar_subquery()
        self._delete = lasting(
            delete(outbox).where(
                lease.c.shard == 0,
                lease.c.epoch == bindparam("held_epoch"),
                outbox.c.shard == 0,
                outbox.c.id == bindparam("ids", type_=ARRAY(BigInteger)).any_(),
                unhurried == "off",
            )
        )

    @property
    def ready(self) -> bool:
        """Whether the database answers about the lease, whoever holds it."""
        return self._answered

    @property
    def leading(self) -> bool:
        """Whether this process sends."""
        return self._held is not None and self._held.safe

    def wake(self) -> None:
        """Read now: rows were committed."""
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until ``stop``, finish the batch, give the lease back. Postgres and Kafka may come and go."""
        forget = on_commit(self._service, self.wake)
        waiter = asyncio.create_task(self._wake_at(stop))
        backoff = _BACKOFF_FIRST
        try:
            while not stop.is_set():
                try:
                    await self._lead(stop)
                    backoff = _BACKOFF_FIRST
                    await self._pause(stop, _STANDBY)
                except Exception as error:
                    self._failed(error, backoff)
                    await self._pause(stop, backoff * (0.5 + random.random() / 2))  # noqa: S311
                    backoff = min(backoff * 2, _BACKOFF_LAST)
        finally:
            forget()
            waiter.cancel()
            await self._give_back()

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.wake()

    async def _pause(self, stop: asyncio.Event, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()

    def _failed(self, error: Exception, backoff: float) -> None:
        self._answered = False
        relay_errors.labels(self._service, type(error).__name__).inc()
        trace = {} if isinstance(error, Retryable) else {"exc_info": error}
        log.warning("relay.failed", service=self._service, error=str(error), retry_in=backoff, **trace)

    async def _lead(self, stop: asyncio.Event) -> None:
        """Take the lease and send for as long as it is ours; returns when another has it."""
        if self._held is None or not await self._lease.renew(self._held):
            self._held = await self._lease.take()
        self._answered = True
        if self._held is None:
            return
        log.info("relay.leads", service=self._service, owner=self._owner, epoch=self._held.epoch)
        outbox_leader.labels(self._service).set(1)
        await self._parked_keys.load()
        self._unsent.restart()
        self._sent.clear()
        over = asyncio.Event()
        renewal = asyncio.create_task(self._keep(self._held, over))
        try:
            await self._send_on(self._held, stop)
        finally:
            over.set()
            renewal.cancel()
            outbox_leader.labels(self._service).set(0)

    async def _keep(self, held: Held, over: asyncio.Event) -> None:
        """Renew beside the sending, which may wait long for Kafka.

        ``over`` ends it too: until Python 3.12, ``wait_for`` may lose a cancellation.
        """
        while not over.is_set():
            await asyncio.sleep(RENEW_EVERY)
            try:
                if not over.is_set() and not await self._lease.renew(held):
                    if self._held is held:
                        self._held = None
                    return
            except Unavailable as error:
                # Past its safe time the lease counts as lost, whatever the reason.
                log.warning("relay.not_renewed", service=self._service, error=str(error))

    async def _send_on(self, held: Held, stop: asyncio.Event) -> None:
        """Send window after window. While one is sent, the next is read and those before are deleted."""
        reading: asyncio.Task[Window] | None = None
        loop = asyncio.get_running_loop()
        found = loop.time()
        try:
            while not stop.is_set() and self._still(held):
                if reading is None:
                    if self._unsent.sweep_due:
                        await self._delete_all(held)
                        await self._unsent.sweep()
                    self._woken.clear()
                    window = await self._read()
                else:
                    window = await reading
                # A look at the whole table waits until nothing is on its way.
                ahead = window.full and not self._unsent.sweep_due
                reading = asyncio.create_task(self._read()) if ahead else None
                await self._send_window(held, window.rows)
                if window.rows:
                    found = loop.time()
                else:
                    await self._delete_all(held)
                if not window.full:
                    idle = _IDLE_LONG if loop.time() - found > _QUIET else _IDLE
                    with suppress(TimeoutError):
                        async with asyncio.timeout(min(idle, _DELETED_AFTER) if self._sent else idle):
                            await self._woken.wait()
            await self._delete_all(held)
        finally:
            # What is acknowledged should leave the table also when the next window failed.
            left, self._sent = self._sent, []
            deleting = [self._delete_ids(held, left)] if left else []
            under_way = [task for task in (reading, self._deleting) if task is not None]
            self._deleting = None
            await asyncio.gather(*under_way, *deleting, return_exceptions=True)

    def _still(self, held: Held) -> bool:
        """Whether to go on; Unavailable when nobody knows."""
        if self._held is not held:
            log.warning("relay.superseded", service=self._service, epoch=held.epoch)
            return False
        if not held.safe:
            raise Unavailable("the lease could not be renewed in time")
        return True

    async def _read(self) -> Window:
        window = await self._unsent.read()
        oldest = window.rows[0]["created_at"] if window.rows else None
        age = (datetime.now(UTC) - oldest).total_seconds() if oldest else 0.0
        outbox_lag_seconds.labels(self._service).set(max(age, 0.0))
        return window

    async def _send_window(self, held: Held, rows: Sequence[Row]) -> None:
        """Send ``rows`` to the last, or until the lease is lost; what is acknowledged is being deleted."""
        while rows and self._still(held):
            for key in self._parked_keys.among(rows):
                await self._parked_keys.park(held, key, "an earlier row of this key is parked")
                rows = [row for row in rows if row["key"] != key]
            if not rows:
                return
            try:
                acknowledged = await self._send(
                    [
                        OutboxRow(row["event_id"], row["topic"], row["key"], row["value"], row["headers"])
                        for row in rows
                    ],
                    lambda: self._held is held and held.safe,
                )
            except Rejected as error:
                # What the key has sent must be gone, or it would be parked as well.
                await self._delete_all(held)
                await self._park(held, rows[0], error)
                continue
            if not acknowledged:
                raise Unavailable(f"Kafka acknowledged none of {len(rows)} rows")
            crashpoint.reached("outbox.sent")
            if not self._sent:
                self._sent_since = time.monotonic()
            self._sent += [row["id"] for row in rows[:acknowledged]]
            late = time.monotonic() - self._sent_since >= _DELETED_AFTER
            if late or len(self._sent) >= _DELETED_AT_ONCE:
                await self._begin_delete(held)
            rows = rows[acknowledged:]

    async def _delete_ids(self, held: Held, ids: Sequence[int]) -> None:
        deleted = await self._db.execute(self._delete, {"held_epoch": held.epoch, "ids": ids})
        outbox_sent.labels(self._service).inc(len(ids))
        if deleted == 0:
            log.warning("relay.fenced", service=self._service, epoch=held.epoch, sent=len(ids))
            if self._held is held:
                self._held = None

    async def _begin_delete(self, held: Held) -> None:
        """Delete what is acknowledged while the next window is sent, once the delete before is done."""
        await self._deleted()
        ids, self._sent = self._sent, []
        self._deleting = asyncio.create_task(self._delete_ids(held, ids))

    async def _delete_all(self, held: Held) -> None:
        """Delete what is acknowledged, and wait for it."""
        if self._sent:
            await self._begin_delete(held)
        await self._deleted()

    async def _deleted(self) -> None:
        """Wait for the delete that is under way; raises its error."""
        if self._deleting is not None:
            deleting, self._deleting = self._deleting, None
            await deleting

    async def _park(self, held: Held, row: Row, error: Rejected) -> None:
        """Set aside the key of a row that Kafka will never take."""
        moved = await self._parked_keys.park(held, row["key"], str(error))
        relay_errors.labels(self._service, type(error).__name__).inc()
        facts = {"event_id": row["event_id"], "topic": row["topic"], "rows": moved, "error": str(error)}
        log.error("outbox.key_parked", service=self._service, **facts)

    async def _give_back(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            with suppress(Unavailable):
                await self._lease.release(held)
