"""A warehouse command from inbox to answer, in one transaction; what takes longer is left to the rounds.

The floor is never asked here. A command whose answer is not known yet gives its job a goal; ``rounds`` drive
the job there, and record the answer in the transaction in which it leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from fulcrum.commands.delivery import Delivery
from fulcrum.saga.messages import StepCommand
from fulcrum.store import inbox, outbox
from fulcrum.store.database import Database, Transaction
from fulcrum.store.outbox import OutboxRow
from fulcrum.telemetry.metrics import commands_duplicate
from fulcrum.wire.codec import Codec
from fulcrum.wire.topics import Topics
from fulcrum.workers import warehouse_store
from fulcrum.workers.answers import answer_row, inbox_key
from fulcrum.workers.handlers import WAREHOUSE_HANDLERS
from fulcrum.workers.transact import transact
from fulcrum.workers.warehouse_jobs import PackJob
from fulcrum.workers.warehouse_relations import WAREHOUSE
from fulcrum.workers.warehouse_store import MET, Changed

SERVICE = "warehouse"

_NOW = timedelta(0)


class WarehouseWorker:
    """Carries out warehouse commands in batches; ``goal_set`` is set when one gave its job a goal."""

    def __init__(self, db: Database, codec: Codec, topics: Topics) -> None:
        self._db = db
        self._codec = codec
        self._topics = topics
        self.goal_set = asyncio.Event()

    async def handle(self, batch: Sequence[Delivery]) -> None:
        """All of ``batch`` takes effect, or nothing: inbox, jobs, answers; a repeat gets its first answer.

        A repeat of a command that waits for its answer does nothing. Raises Retryable while another command
        must end first, Rejected when a command makes no sense, Corrupt when an id was seen with another body.
        """
        keys = [inbox_key(delivery) for delivery in batch]

        async def work(tx: Transaction, _: int) -> Mapping[str, Sequence[OutboxRow] | None]:
            claimed = await inbox.claim(tx, WAREHOUSE, SERVICE, keys)
            workflows = {_step(each).workflow_id for each in batch if each.message_id in claimed}
            found, _now = await warehouse_store.lock(tx, workflows) if workflows else ({}, None)
            repeats = {each.message_id for each in batch} - claimed
            stored = await inbox.outcomes(tx, WAREHOUSE, SERVICE, repeats)
            jobs, answers, opened = self._decide(found, [d for d in batch if d.message_id in claimed])
            changed = [
                Changed(found.get(workflow), job, None if job.goal is None else _NOW)
                for workflow, job in jobs.items()
                if job != found.get(workflow)
            ]
            warehouse_store.save(tx, changed)
            await inbox.record(tx, WAREHOUSE, SERVICE, answers)
            warehouse_store.open_commands(tx, opened)
            told = {**stored, **answers}
            rows = [row for each in batch for row in told.get(each.message_id) or ()]
            await outbox.add(tx, WAREHOUSE, rows)
            if opened:
                tx.after_commit(self.goal_set.set)
            return stored

        repeated = await transact(self._db, work, MET)
        for delivery in batch:
            if delivery.message_id in repeated:
                commands_duplicate.labels(SERVICE, type(delivery.command).__name__).inc()

    def _decide(
        self, found: Mapping[str, PackJob], batch: Sequence[Delivery]
    ) -> tuple[dict[str, PackJob], dict[str, Sequence[OutboxRow]], dict[str, Delivery]]:
        """The jobs by workflow, the answers by message, and the commands that stay open.

        Of copies in one batch the first one is carried out.
        """
        jobs: dict[str, PackJob] = dict(found)
        answers: dict[str, Sequence[OutboxRow]] = {}
        opened: dict[str, Delivery] = {}
        for delivery in batch:
            command = _step(delivery)
            if delivery.message_id in answers or delivery.message_id in opened:
                continue
            handler = WAREHOUSE_HANDLERS[type(command)]
            job, event = handler(jobs.get(command.workflow_id), command, datetime.now(UTC))
            jobs[command.workflow_id] = job
            if event is None:
                opened[delivery.message_id] = delivery
            else:
                answers[delivery.message_id] = (
                    answer_row(self._codec, self._topics, SERVICE, event, delivery),
                )
        return jobs, answers, opened


def _step(delivery: Delivery) -> StepCommand:
    assert isinstance(delivery.command, StepCommand)
    return delivery.command
