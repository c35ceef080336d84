"""How committed outbox rows reach Kafka, in order for each key, and then leave the table.

There is no cursor that could run past a late commit: whatever is in the table is unsent, lowest id first,
and what Kafka acknowledged is deleted. A crash between the two sends rows again, with the same event ids.
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
from fulcrum.telemetry.metrics import outbox_lag_seconds, outbox_leader, outbox_sent, relay_errors

log = structlog.get_logger()

Send = Callable[[Sequence[OutboxRow]], Awaitable[int]]

_BATCH = 500
#: Seconds between reads when nothing woke us, and between tries to take a lease that another holds.
_IDLE = 0.1
_STANDBY = 0.5
_BACKOFF_FIRST, _BACKOFF_LAST = 0.1, 2.0
#: Seconds between reads of the whole table, see Relay._read.
_SWEEP = 15.0


class Relay:
    """Sends the outbox of one service while it holds the lease. Rows of one key never overtake each other.

    ``send`` answers how many rows, counted from the first, are acknowledged. It raises Rejected when the
    first can never be sent: its key is parked then, with what the key emits later, and the other keys go
    on. Any other error is waited out.
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
        self._floor = self._next_floor = self._last_id = 0
        self._swept = 0.0
        outbox, lease = relations.outbox, relations.lease
        self._next_rows = (
            select(outbox)
            .where(outbox.c.shard == 0, outbox.c.id >= bindparam("floor"))
            .order_by(outbox.c.id)
            .limit(_BATCH)
        )
        # A delete that is lost with the server costs a repeat, not an event: it need not wait for the disk.
        unhurried = select(func.set_config("synchronous_commit", "off", True)).scalar_subquery()
        self._delete = delete(outbox).where(
            lease.c.shard == 0,
            lease.c.epoch == bindparam("held_epoch"),
            outbox.c.shard == 0,
            outbox.c.id == bindparam("ids", type_=ARRAY(BigInteger)).any_(),
            unhurried == "off",
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
        self._floor = self._next_floor = self._last_id = 0
        self._swept = 0.0
        renewal = asyncio.create_task(self._keep(self._held))
        try:
            await self._send_on(self._held, stop)
        finally:
            renewal.cancel()
            outbox_leader.labels(self._service).set(0)

    async def _keep(self, held: Held) -> None:
        """Renew beside the sending, which may wait long for Kafka."""
        while True:
            await asyncio.sleep(RENEW_EVERY)
            try:
                if not await self._lease.renew(held):
                    self._held = None
                    return
            except Unavailable as error:
                # Past its safe time the lease counts as lost, whatever the reason.
                log.warning("relay.not_renewed", service=self._service, error=str(error))

    async def _send_on(self, held: Held, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if self._held is not held:
                log.warning("relay.superseded", service=self._service, epoch=held.epoch)
                return
            if not held.safe:
                raise Unavailable("the lease could not be renewed in time")
            self._woken.clear()
            rows = await self._read()
            if rows and not await self._send_rows(held, rows):
                return
            if len(rows) < _BATCH:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_IDLE):
                        await self._woken.wait()

    async def _read(self) -> list[Row]:
        """The lowest rows.

        Deleted rows stay in the index while any transaction of the server is older than the delete, and a
        read from the beginning walks over all of them. So reads begin at the lowest id that was there two
        sweeps ago. A row whose commit took longer than that is found by the next sweep, from the beginning.
        """
        sweep = time.monotonic() - self._swept >= _SWEEP
        rows = await self._db.all(self._next_rows, {"floor": 0 if sweep else self._floor})
        if sweep:
            self._floor, self._next_floor = self._next_floor, rows[0]["id"] if rows else self._last_id
            self._swept = time.monotonic()
        if rows:
            self._last_id = rows[-1]["id"]
        age = (datetime.now(UTC) - rows[0]["created_at"]).total_seconds() if rows else 0.0
        outbox_lag_seconds.labels(self._service).set(max(age, 0.0))
        return rows

    async def _send_rows(self, held: Held, rows: Sequence[Row]) -> bool:
        """Send and delete ``rows``; False when the lease turned out to be lost."""
        for key in self._parked_keys.among(rows):
            await self._parked_keys.park(held, key, "an earlier row of this key is parked")
            rows = [row for row in rows if row["key"] != key]
        if not rows:
            return True
        try:
            acknowledged = await self._send(
                [
                    OutboxRow(row["event_id"], row["topic"], row["key"], row["value"], row["headers"])
                    for row in rows
                ]
            )
        except Rejected as error:
            return await self._park(held, rows[0], error)
        if acknowledged:
            crashpoint.reached("outbox.sent")
            ids = [row["id"] for row in rows[:acknowledged]]
            deleted = await self._db.execute(self._delete, {"held_epoch": held.epoch, "ids": ids})
            outbox_sent.labels(self._service).inc(acknowledged)
            if deleted == 0:
                log.warning("relay.fenced", service=self._service, epoch=held.epoch, sent=acknowledged)
                self._held = None
                return False
        if acknowledged < len(rows):
            raise Unavailable(f"Kafka acknowledged {acknowledged} of {len(rows)} rows")
        return True

    async def _park(self, held: Held, row: Row, error: Rejected) -> bool:
        """Set aside the key of a row that Kafka will never take."""
        moved = await self._parked_keys.park(held, row["key"], str(error))
        relay_errors.labels(self._service, type(error).__name__).inc()
        facts = {"event_id": row["event_id"], "topic": row["topic"], "rows": moved, "error": str(error)}
        log.error("outbox.key_parked", service=self._service, **facts)
        self.wake()
        return True

    async def _give_back(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            with suppress(Unavailable):
                await self._lease.release(held)
