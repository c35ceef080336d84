"""How is an operation carried out? Item by item, under a lease, by any process that has the database.

The lease is in the operation's row, by the database's clock. A process that dies leaves it to run out, and
the next one goes on with the first item that has no outcome. That one's message may have left already: it
leaves again under the same id, which the inbox makes harmless. A workflow is asked again under the same id,
which intake recognises.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy import Float, bindparam, func, or_, select, text, update

from fulcrum.commands.parker import storable
from fulcrum.commands.retry import is_bug, pause_before_try
from fulcrum.errors import Misconfigured, Retryable
from fulcrum.operations import asked, moves
from fulcrum.operations.asked import Ask
from fulcrum.operations.editing import Editor
from fulcrum.operations.kinds import verb_of
from fulcrum.operations.moves import Next, Work
from fulcrum.operations.outcomes import observe
from fulcrum.operations.pace import Pace
from fulcrum.operations.relations import OPERATIONS
from fulcrum.operations.sending import Sender
from fulcrum.settings import Settings
from fulcrum.store.database import Database, Row

log = structlog.get_logger()

#: Seconds. A lease that is not renewed for so long belongs to whoever takes it.
LEASE = 6.0
_RENEW_EVERY = 1.0
#: Seconds between looks for work when nobody woke us, between looks at what became of messages while an
#: operation runs, and afterwards.
_IDLE = 0.5
_OBSERVE_EVERY = 0.5
_OBSERVE_LATE = 15.0
#: Seconds between looks at what workflows decided that were asked.
_DECIDES_IN = 0.1
#: Seconds that the messages in hand may take when the process stops.
_FINISH_WITHIN = 4.0
#: Operations in progress at once: a slow one must not keep a single act waiting.
_AT_ONCE = 16

_WORK = or_(
    OPERATIONS.c.state.in_(("pending", "running")),
    # What was begun before the end is finished: its message may have left.
    (OPERATIONS.c.state == "aborted") & (OPERATIONS.c.pending > 0),
)
_FREE = (
    select(OPERATIONS.c.id)
    .where(_WORK, OPERATIONS.c.lease_until < func.clock_timestamp())
    .order_by(OPERATIONS.c.created_at)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_UNTIL = func.clock_timestamp() + func.make_interval(
    0, 0, 0, 0, 0, 0, bindparam("lease_seconds", type_=Float)
)
_TAKE = (
    update(OPERATIONS)
    .where(OPERATIONS.c.id == _FREE.scalar_subquery())
    .values(
        lease_owner=bindparam("owner"),
        lease_epoch=OPERATIONS.c.lease_epoch + 1,
        lease_until=_UNTIL,
        started_at=func.coalesce(OPERATIONS.c.started_at, func.clock_timestamp()),
        state=text("CASE WHEN state = 'pending' THEN 'running' ELSE state END"),
    )
    .returning(OPERATIONS)
)
_MINE = (OPERATIONS.c.id == bindparam("operation"), OPERATIONS.c.lease_epoch == bindparam("epoch"))
_RENEW = update(OPERATIONS).where(*_MINE).values(lease_until=_UNTIL)
_RELEASE = update(OPERATIONS).where(*_MINE).values(lease_until=text("'-infinity'"))


class Runner:
    """Carries operations out until it is told to stop. ``clock`` is monotonic seconds."""

    def __init__(
        self,
        db: Database,
        settings: Settings,
        sender: Sender,
        editor: Editor,
        ask: Ask,
        *,
        clock: Callable[[], float] = time.monotonic,
        lease: float = LEASE,
    ) -> None:
        self._db = db
        self._sender = sender
        self._editor = editor
        self._ask = ask
        self._clock = clock
        self._lease = lease
        self._canary_wait = settings.canary_wait
        self._owner = f"{settings.namespace}/{settings.instance}"
        self._woken = asyncio.Event()
        self._nudge = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Look for work now, and try again now: somebody waits for it."""
        self._woken.set()
        self._nudge.set()
        self._nudge = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``; the items in hand are finished. Postgres may come and go."""
        watching = asyncio.create_task(self._observe_late())
        ending = asyncio.create_task(self._wake_at(stop))
        try:
            while not stop.is_set():
                self._woken.clear()
                try:
                    taken = await self._take() if len(self._tasks) < _AT_ONCE else None
                except Exception as error:
                    log.warning("operations.not_taken", error=str(error), **_trace(error))
                    taken = None
                if taken is None:
                    await self._pause(_IDLE)
                else:
                    task = asyncio.create_task(self._carry_out(taken, stop))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        finally:
            for helper in (watching, ending):
                helper.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=_FINISH_WITHIN)
            # One that waits for a broker that is away is begun again by the next runner.
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, watching, ending, return_exceptions=True)

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.wake()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    async def _take(self) -> Row | None:
        return await self._db.one(_TAKE, {"owner": self._owner, "lease_seconds": self._lease})

    async def _carry_out(self, operation: Row, stop: asyncio.Event) -> None:
        """Work on one operation until it ends, is held up, or is in other hands."""
        mine = {"operation": operation["id"], "epoch": operation["lease_epoch"]}
        renewal = asyncio.create_task(self._keep(mine))
        log.info("operation.taken", operation=operation["id"], kind=operation["kind"], epoch=mine["epoch"])
        try:
            await self._work(operation, stop)
        except Exception:
            # The lease runs out by itself, and the next taker meets the same item.
            log.exception("operation.failed", operation=operation["id"])
            await self._wait(_IDLE)
        finally:
            renewal.cancel()
            with suppress(Retryable):
                await self._db.execute(_RELEASE, mine)

    async def _keep(self, mine: dict[str, object]) -> None:
        while True:
            await asyncio.sleep(min(_RENEW_EVERY, self._lease / 3))
            try:
                await self._db.execute(_RENEW, {**mine, "lease_seconds": self._lease})
            except Exception as error:
                log.warning("operation.not_renewed", operation=mine["operation"], error=str(error))

    async def _work(self, operation: Row, stop: asyncio.Event) -> None:
        chosen, epoch = operation["id"], operation["lease_epoch"]
        asks = verb_of(operation["kind"]) is not None
        begin, look_every = (asked.begin, _DECIDES_IN) if asks else (moves.begin, _OBSERVE_EVERY)
        pace = Pace(operation["rate"], self._clock)
        looked, tries, waits = self._clock(), 0, 0
        unsure: deque[Work] | None = None
        while not stop.is_set():
            try:
                if asks:
                    unsure = deque(await asked.begun(self._db, operation)) if unsure is None else unsure
                    while unsure:
                        if not await self._put(unsure[0], epoch):
                            return
                        unsure.popleft()
                if self._clock() - looked >= look_every:
                    await self._observe(chosen, epoch, asks=asks)
                    looked = self._clock()
                if left := pace.left():
                    # In short steps: who pauses or aborts should not wait for a slow pace.
                    await self._wait(min(left, look_every))
                    if pace.left() and await self._held(chosen, epoch):
                        continue
                step = await begin(self._db, chosen, epoch, self._canary_wait)
                if step is Next.OVER:
                    await self._observe(chosen, epoch, asks=asks)
                    return
                waits = waits + 1 if step is Next.WAIT else 0
                if step is Next.WAIT:
                    # Seldom, when nobody seems to decide.
                    await self._wait(min(waits * look_every, _OBSERVE_EVERY))
                elif isinstance(step, Work):
                    if unsure is not None:
                        unsure.append(step)
                    elif not await self._send(step, epoch):
                        return
                    pace.went()
                tries = 0
            except (Retryable, Misconfigured) as error:
                tries += 1
                pause = pause_before_try(tries, random.random())  # noqa: S311
                log.warning("operation.waits", operation=chosen, error=str(error), retry_in=round(pause, 3))
                await self._wait(pause)

    async def _observe(self, operation: str, epoch: int, *, asks: bool) -> None:
        if asks:
            await asked.observe(self._db, operation, epoch)
        else:
            await observe(self._db, operation)

    async def _held(self, operation: str, epoch: int) -> bool:
        """Whether the operation still runs in our hands."""
        running = select(OPERATIONS.c.id).where(*_MINE, OPERATIONS.c.state == "running")
        return await self._db.one(running, {"operation": operation, "epoch": epoch}) is not None

    async def _put(self, work: Work, epoch: int) -> bool:
        """Ask one workflow; False when the lease is lost."""
        workflow_id = work.item["workflow_id"]
        try:
            await self._ask(work.operation, work.item)
        except (Retryable, Misconfigured):
            raise
        except Exception as error:
            log.warning("workflow.not_asked", workflow_id=workflow_id, error=str(error), **_trace(error))
            told = storable(str(error) or type(error).__name__)[:500]
            return await asked.refused(self._db, work, epoch, told)
        return True

    async def _send(self, work: Work, epoch: int) -> bool:
        """Send one message and record it; False when the lease is lost."""
        edited: Row | None = None
        try:
            if work.operation["kind"] == "edit":
                patch = work.operation["arguments"]["patch"]
                edited = await self._editor.edited(work.message, patch, work.operation["id"])
            await self._sender.send(edited or work.message)
        except (Retryable, Misconfigured):
            raise
        except Exception as error:
            # Whatever else it is would be the same at the next try, and the others should not wait for it.
            log.warning("message.not_sent", parked_id=work.message["id"], error=str(error), **_trace(error))
            told = storable(str(error) or type(error).__name__)[:500]
            return await moves.refused(self._db, work, epoch, told)
        log.info("message.sent_again", parked_id=work.message["id"], operation=work.operation["id"])
        return await moves.sent(self._db, work, epoch, edited)

    async def _wait(self, seconds: float) -> None:
        """Wait, but not once somebody waits for us: the end of the process does so too."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._nudge.wait()

    async def _observe_late(self) -> None:
        """See what became of messages whose operation has ended: retries may take hours."""
        while True:
            await asyncio.sleep(_OBSERVE_LATE)
            try:
                await observe(self._db)
            except Exception as error:
                log.warning("operations.not_observed", error=str(error), **_trace(error))


def _trace(error: Exception) -> dict[str, Any]:
    """The traceback of what nobody raised on purpose."""
    return {"exc_info": error} if is_bug(error) else {}
