"""What does an update of the courier change here, whichever way it came?

One transaction keeps the update, moves the shipment on, and answers the commands that wait for its end. Each
update takes effect once, by the courier's own id.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from fulcrum import crashpoint
from fulcrum.errors import Conflict, NotFound
from fulcrum.saga.messages import Answer
from fulcrum.store import inbox, outbox
from fulcrum.store.database import Database, Transaction
from fulcrum.telemetry.metrics import courier_updates
from fulcrum.wire.codec import Codec
from fulcrum.wire.topics import Topics
from fulcrum.workers import courier_store
from fulcrum.workers.answers import event_row
from fulcrum.workers.courier import news, settle
from fulcrum.workers.courier_moves import OVER
from fulcrum.workers.courier_relations import COURIER
from fulcrum.workers.courier_worker import SERVICE
from fulcrum.workers.tracking import Update
from fulcrum.workers.transact import transact

log = structlog.get_logger()

WEBHOOK, POLL = "webhook", "poll"

#: Violated when an update of another shipment has just taken the same id.
_MET = frozenset({"tracking_updates_pkey"})


class CourierNews:
    """Takes in updates."""

    def __init__(self, db: Database, codec: Codec, topics: Topics, poll: float) -> None:
        self._db = db
        self._codec = codec
        self._topics = topics
        self._poll = poll

    async def take(self, shipment_id: str, updates: Sequence[tuple[Update, bytes]], came_by: str) -> int:
        """Take in updates of one shipment with the bytes that they came as; returns how many were new.

        Raises NotFound when nobody here knows the shipment, Conflict when an update's id was seen with
        something else in it; nothing is kept then.
        """

        async def work(tx: Transaction, _: int) -> int:
            shipment = await courier_store.lock_of(tx, shipment_id)
            if shipment is None:
                raise NotFound(f"shipment_id: {shipment_id!r} is no shipment of ours")
            # Under the lock: each id once, although a copy may come at the same time.
            seen = await courier_store.seen(tx, [update.update_id for update, _ in updates])
            fresh = []
            for update, body in updates:
                told = (update.shipment_id, update.sequence, str(update.status))
                if update.update_id not in seen:
                    fresh.append((update, body))
                if seen.setdefault(update.update_id, told) != told:
                    raise Conflict(f"update_id: {update.update_id!r} was seen before with something else")
            if not fresh:
                return 0
            now = datetime.now(UTC)
            waiting = (await courier_store.waiting(tx, [shipment.workflow_id]))[shipment.workflow_id]
            moved, events = news(shipment, [update for update, _ in fresh], list(waiting), now)
            answers: list[Answer] = []
            if moved.state in OVER and shipment.state not in OVER:
                moved, answers = settle(moved, list(waiting), now)
            rows = [
                event_row(self._codec, self._topics, SERVICE, event, waiting[event.command_id])
                for event in (*events, *answers)
            ]
            courier_store.keep(tx, shipment.workflow_id, fresh, came_by)
            courier_store.save(tx, {shipment.workflow_id: shipment}, [moved], self._poll)
            of_answers = rows[len(events) :]
            outcomes = {e.command_id: [row] for e, row in zip(answers, of_answers, strict=True)}
            await inbox.record(tx, COURIER, SERVICE, outcomes)
            courier_store.close(tx, outcomes)
            await outbox.add(tx, COURIER, rows)
            tx.after_commit(
                lambda: log.info(
                    "courier.heard",
                    workflow_id=shipment.workflow_id,
                    shipment_id=shipment_id,
                    state=moved.state,
                    new=len(fresh),
                    came_by=came_by,
                )
            )
            return len(fresh)

        taken = await transact(self._db, work, _MET)
        if taken:
            crashpoint.reached("update.stored")
        courier_updates.labels(came_by, "new").inc(taken)
        courier_updates.labels(came_by, "seen_before").inc(len(updates) - taken)
        return taken
