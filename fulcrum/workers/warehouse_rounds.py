"""Who drives pack jobs to their goals? Rounds over those that are due, in the warehouse process.

Each step of a job is asked of the floor outside of any transaction, and what it says is then decided upon
under the lock of the job's row; the commands that end with it are answered in that transaction. A job that is
taken up is due again after ``warehouse_sweep_after`` seconds, so that one that a crash, a silence or an error
left behind is taken up once more: every question may be asked twice. Several processes may go round at once:
a row goes to one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from fulcrum import crashpoint
from fulcrum.commands.retry import is_bug
from fulcrum.errors import Retryable
from fulcrum.saga.messages import OrderShort
from fulcrum.settings import Settings
from fulcrum.store import inbox, outbox
from fulcrum.store.database import Database, Transaction
from fulcrum.store.outbox import OutboxRow
from fulcrum.telemetry.metrics import pack_jobs_put_off
from fulcrum.wire.codec import Codec
from fulcrum.wire.topics import Topics
from fulcrum.workers import warehouse_store
from fulcrum.workers.answers import event_row
from fulcrum.workers.together import Together
from fulcrum.workers.transact import transact
from fulcrum.workers.warehouse import open_commands
from fulcrum.workers.warehouse_floor import Floor
from fulcrum.workers.warehouse_jobs import Ask, Learned, PackJob, next_ask
from fulcrum.workers.warehouse_progress import Pace, again_in, learn
from fulcrum.workers.warehouse_relations import WAREHOUSE
from fulcrum.workers.warehouse_store import Changed
from fulcrum.workers.warehouse_worker import SERVICE, WarehouseWorker

log = structlog.get_logger()

#: Jobs in hand at once, at most.
_MOST = 100
#: Jobs whose next state is stored in one transaction, and such transactions side by side.
_TOGETHER, _AT_ONCE = 50, 2


@dataclass(frozen=True, slots=True)
class _Word:
    """What the floor said to ``ask`` about the job of ``workflow_id``."""

    workflow_id: str
    ask: Ask
    said: Learned


class WarehouseRounds:
    """Looks for pack jobs that are due, and when a command gave one a goal."""

    def __init__(
        self,
        db: Database,
        codec: Codec,
        topics: Topics,
        floor: Floor,
        worker: WarehouseWorker,
        settings: Settings,
    ) -> None:
        self._db = db
        self._codec = codec
        self._topics = topics
        self._floor = floor
        self._goal_set = worker.goal_set
        self._interval = settings.warehouse_poll_interval
        self._sweep_after = settings.warehouse_sweep_after
        self._pace = Pace(
            look=timedelta(seconds=settings.warehouse_poll_interval),
            pick_again=timedelta(seconds=settings.backorder_retry),
            goods=timedelta(seconds=settings.backorder_wait),
        )
        self._in_hand: dict[str, asyncio.Task[None]] = {}
        #: Jobs that became due while they were in hand: a command gave them another goal.
        self._next: dict[str, PackJob] = {}
        self._keep = Together(self._keep_words, _TOGETHER, _AT_ONCE)

    async def run(self, stop: asyncio.Event) -> None:
        """Go round until ``stop``. Postgres and the floor may come and go; what is begun is finished."""
        try:
            while not stop.is_set():
                try:
                    full = await self.go_round()
                except Exception as error:
                    trace = {} if isinstance(error, Retryable) else {"exc_info": error}
                    log.warning("rounds.failed", error=str(error), retry_in=self._interval, **trace)
                    full = False
                if not full:
                    await self._rest(stop)
                elif self._in_hand:
                    await asyncio.wait(self._in_hand.values(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self.settled()

    async def go_round(self) -> bool:
        """Take up what is due; whether there may be more than could be taken."""
        self._goal_set.clear()
        room = _MOST - len(self._in_hand)
        if room <= 0:
            return True
        if self._floor.left_alone:
            # Nobody else tries whether it is back: one job does.
            room = min(room, 1)
        due = await warehouse_store.take_due(self._db, room, self._sweep_after)
        for job in due:
            if job.workflow_id in self._in_hand:
                self._next[job.workflow_id] = job
            else:
                self._take(job)
        return len(due) == room and not self._floor.left_alone

    async def settled(self) -> None:
        """Wait until every job in hand was driven as far as it goes now."""
        while self._in_hand:
            await asyncio.wait(self._in_hand.values())

    async def _rest(self, stop: asyncio.Event) -> None:
        """Until a goal is set, the interval is over, or ``stop`` is set."""
        waits = [asyncio.create_task(each.wait()) for each in (stop, self._goal_set)]
        try:
            await asyncio.wait(waits, timeout=self._interval, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    def _take(self, job: PackJob) -> None:
        task = asyncio.create_task(self._drive(job))
        self._in_hand[job.workflow_id] = task
        task.add_done_callback(lambda _: self._put_down(job.workflow_id))

    def _put_down(self, workflow_id: str) -> None:
        del self._in_hand[workflow_id]
        again = self._next.pop(workflow_id, None)
        if again is not None:
            self._take(again)

    async def _drive(self, job: PackJob) -> None:
        """Ask and keep what is said, until there is nothing new to ask."""
        ask = next_ask(job)
        try:
            while ask is not None:
                crashpoint.reached("floor.asking")
                said = await self._floor.ask(ask)
                crashpoint.reached("floor.asked")
                ask = await self._keep(_Word(job.workflow_id, ask, said))
        except Exception as error:
            pack_jobs_put_off.labels(type(ask).__name__).inc()
            trace = {"exc_info": error} if is_bug(error) else {}
            log.warning(
                "pack_job.put_off",
                workflow_id=job.workflow_id,
                ask=type(ask).__name__,
                error=str(error),
                retry_in=self._sweep_after,
                **trace,
            )

    async def _keep_words(self, words: Sequence[_Word]) -> list[Ask | None]:
        """Store what the floor said, with the answers that follow; what to ask of it at once, for each word.

        No two words are about one workflow: a job is in hand once.
        """

        async def work(tx: Transaction, _: int) -> list[Ask | None]:
            jobs, now = await warehouse_store.lock(tx, [word.workflow_id for word in words])
            if now is None:
                return [None] * len(words)
            waiting = {key for job in jobs.values() for key in open_commands(job).values()}
            headers = await warehouse_store.headers_of(tx, waiting)
            changed: list[Changed] = []
            rows: list[OutboxRow] = []
            answers: dict[str, Sequence[OutboxRow]] = {}
            asks: list[Ask | None] = []
            for word in words:
                job = jobs.get(word.workflow_id)
                if job is None or next_ask(job) != word.ask:  # its goal was changed meanwhile
                    asks.append(None if job is None else next_ask(job))
                    continue
                moved, events = learn(job, word.said, now, self._pace)
                wait = again_in(job, moved, now, self._pace)
                changed.append(Changed(job, moved, wait))
                asks.append(next_ask(moved) if wait is not None and not wait else None)
                for event in events:
                    row = event_row(
                        self._codec, self._topics, SERVICE, event, headers.get(event.command_id, {})
                    )
                    rows.append(row)
                    if not isinstance(event, OrderShort):
                        answers[event.command_id] = [row]
            warehouse_store.save(tx, changed)
            await inbox.record(tx, WAREHOUSE, SERVICE, answers)
            warehouse_store.close_commands(tx, answers)
            await outbox.add(tx, WAREHOUSE, rows)
            return asks

        return await transact(self._db, work)
