"""A warehouse service without a broker: database, floor, and processes that are told what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from deliveries import CODEC, NOON, delivery, emitted, settings_for
from eventually import eventually_async
from sqlalchemy import select

from fulcrum.errors import OutcomeUnknown
from fulcrum.saga import identity
from fulcrum.saga.messages import (
    Answer,
    CancelPackJob,
    HandOverParcel,
    Line,
    LineTerms,
    PackOrder,
    StepCommand,
)
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.wire.topics import Topics
from fulcrum.workers.warehouse_floor import Floor
from fulcrum.workers.warehouse_jobs import Ask, Learned
from fulcrum.workers.warehouse_relations import (
    OPEN_COMMAND,
    PACK_JOB,
    PACK_JOB_EVENT,
    PACK_LINE,
    WAREHOUSE,
)
from fulcrum.workers.warehouse_rounds import WarehouseRounds
from fulcrum.workers.warehouse_simulator import WarehouseSimulator
from fulcrum.workers.warehouse_worker import WarehouseWorker

#: Settings under which everything is soon over.
QUICK: Mapping[str, Any] = {
    "warehouse_pace": 0.02,
    "warehouse_poll_interval": 0.02,
    "warehouse_sweep_after": 1.0,
    "backorder_retry": 0.1,
    "backorder_wait": 30.0,
}
_WITHIN = 20.0


def _step(workflow: str, step: str, command: str, attempt: int) -> dict[str, Any]:
    return {
        "command_id": identity.command_id(workflow, step, command, attempt),
        "workflow_id": workflow,
        "step": step,
        "attempt": attempt,
        "issued_at": NOON,
    }


def pack(
    workflow: str, *lines: tuple[str, int], on_short: Sequence[str] | str = (), attempt: int = 1
) -> PackOrder:
    """Pack these lines; ``on_short`` for each, or for all of them."""
    terms = [on_short] * len(lines) if isinstance(on_short, str) else on_short
    return PackOrder(
        **_step(workflow, "pack_order", "PackOrder", attempt),
        lines=tuple(Line(sku, quantity) for sku, quantity in lines),
        terms=tuple(LineTerms(100, each) for each in terms),
        ship_to="1 Road",
    )


def cancel(workflow: str, attempt: int = 1) -> CancelPackJob:
    """Put back what was picked."""
    return CancelPackJob(**_step(workflow, "pack_order", "CancelPackJob", attempt))


def hand_over(workflow: str, attempt: int = 1) -> HandOverParcel:
    """Give it to the courier."""
    return HandOverParcel(**_step(workflow, "hand_over", "HandOverParcel", attempt), tracking_number="TRACK1")


class Faulty(Floor):
    """A connection to the floor that falls silent before or after the floor acts, once for each name.

    ``before`` and ``after`` name questions (Offer, Look, PickAgain, Pack, PutBack, HandOver).
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.before: set[str] = set()
        self.after: set[str] = set()
        self.asked: list[str] = []

    async def ask(self, ask: Ask) -> Learned:
        name = type(ask).__name__
        self.asked.append(name)
        if name in self.before:
            self.before.discard(name)
            raise OutcomeUnknown(f"silent before {name}")
        said = await super().ask(ask)
        if name in self.after:
            self.after.discard(name)
            raise OutcomeUnknown(f"silent after {name}")
        return said


class Bench:
    """One warehouse service: its database, its floor, and one process that runs."""

    def __init__(self, db: Database, settings: Settings, simulator: WarehouseSimulator) -> None:
        self.db = db
        self.settings = settings
        self.simulator = simulator
        self.floor = Faulty(settings)
        topics = Topics(settings.namespace)
        self.worker = WarehouseWorker(db, CODEC, topics)
        self.rounds = WarehouseRounds(db, CODEC, topics, self.floor, self.worker, settings)

    async def handle(self, *commands: StepCommand) -> None:
        """Take ``commands`` in one batch."""
        await self.worker.handle([delivery(command) for command in commands])

    async def done(self, command: StepCommand) -> list[Answer]:
        """Take ``command``, and wait until it is answered; everything that was told of its workflow."""
        await self.handle(command)
        return await self.answered(command)

    async def answered(self, command: StepCommand) -> list[Answer]:
        """Wait until ``command`` is answered; everything that was told of its workflow."""
        inbox = WAREHOUSE.inbox
        kept = select(inbox.c.message_id).where(
            inbox.c.message_id == command.command_id, inbox.c.outcome.is_not(None)
        )
        await eventually_async(
            lambda: self.db.one(kept), within=_WITHIN, state=lambda: self.row(command.workflow_id)
        )
        return await self.told(command.workflow_id)

    async def until(self, workflow: str, *states: str) -> None:
        """Wait until the job is in one of ``states``."""

        async def there() -> bool:
            return (await self.row(workflow))["state"] in states

        await eventually_async(there, within=_WITHIN, state=lambda: self.row(workflow))

    async def told(self, workflow: str) -> list[Answer]:
        """What was emitted, copies included."""
        return await emitted(self.db, WAREHOUSE, workflow)

    async def row(self, workflow: str) -> Mapping[str, Any]:
        """The job as it is stored."""
        row = await self.db.one(select(PACK_JOB).where(PACK_JOB.c.workflow_id == workflow))
        assert row is not None
        return row

    async def lines(self, workflow: str) -> list[tuple[str, int, int]]:
        """SKU, ordered and picked, line by line."""
        those = select(PACK_LINE).where(PACK_LINE.c.workflow_id == workflow).order_by(PACK_LINE.c.line)
        return [(row["sku"], row["requested"], row["picked"]) for row in await self.db.all(those)]

    async def history(self, workflow: str) -> list[str]:
        """The states that the job came to, each once in a row."""
        events = PACK_JOB_EVENT
        those = select(events).where(events.c.workflow_id == workflow).order_by(events.c.id)
        found: list[str] = []
        for row in await self.db.all(those):
            if not found or found[-1] != row["state"]:
                found.append(row["state"])
        return found

    async def open_commands(self, workflow: str) -> list[str]:
        """Which commands wait for their answer, by type."""
        those = select(OPEN_COMMAND).where(OPEN_COMMAND.c.workflow_id == workflow)
        return sorted(row["type"] for row in await self.db.all(those))

    def units(self, workflow: str) -> dict[str, int]:
        """What really happened: units by kind of effect, and one for each effect without units."""
        return units_of(self.simulator, workflow)


def units_of(simulator: WarehouseSimulator, workflow: str) -> dict[str, int]:
    """What really happened: units by kind of effect, and one for each effect without units."""
    found: dict[str, int] = {}
    for effect in simulator.effects(workflow):
        units = 1 if effect.quantity is None else effect.quantity
        found[effect.kind] = found.get(effect.kind, 0) + units
    return found


@asynccontextmanager
async def warehouse_service(namespace: Mapping[str, str], **changes: Any) -> AsyncIterator[Bench]:
    """A service with a floor of its own, on the database of ``namespace``, whose rounds go round."""
    quick = {**QUICK, **changes}
    simulator = WarehouseSimulator(settings_for(namespace, **quick))
    await simulator.start(0)
    settings = settings_for(namespace, warehouse_url=f"http://127.0.0.1:{simulator.port}", **quick)
    db = await Database.open(settings.postgres_dsn, size=6)
    running, stop = Bench(db, settings, simulator), asyncio.Event()
    rounds = asyncio.create_task(running.rounds.run(stop))
    try:
        yield running
    finally:
        stop.set()
        await rounds
        await running.floor.close()
        await db.close()
        await simulator.stop()
