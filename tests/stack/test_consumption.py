"""Goods that leave and come back, on a real database: every unit is where ledger and reservation say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg2
import psycopg2.errors
import pytest
import pytest_asyncio
import sqlalchemy
from deliveries import (
    CODEC,
    confirm,
    consume,
    delivery,
    emitted,
    hold,
    new_workflow,
    receive,
    release,
    reserve,
    restock,
    settings_for,
)
from sqlalchemy import func, select

from fulcrum.saga.messages import (
    Answer,
    Command,
    Line,
    StockConsumed,
    StockExpired,
    StockNotConsumed,
    StockReleased,
    StockRestocked,
)
from fulcrum.store.database import Database
from fulcrum.wire.topics import Topics
from fulcrum.workers.inventory import InventoryWorker
from fulcrum.workers.inventory_relations import INVENTORY, LEDGER, RESERVATIONS, STOCK
from fulcrum.workers.stock_books import drifts
from fulcrum.workers.stock_sweeper import StockSweeper

pytestmark = pytest.mark.asyncio(loop_scope="module")

_FIGURES = ("available", "reserved", "consumed")


class Bench:
    """One inventory service with ten units of a SKU, and as many of its processes as a test asks for."""

    def __init__(self, db: Database, topics: Topics, dsn: str) -> None:
        self.db = db
        self.topics = topics
        self.sku = f"sku-{uuid4().hex[:8]}"
        self._engine = sqlalchemy.create_engine(
            "postgresql+psycopg2://", creator=lambda: psycopg2.connect(dsn)
        )

    async def handle(self, *commands: Command, ttl: timedelta | None = None) -> None:
        """Carry the commands out in one batch."""
        worker = InventoryWorker(self.db, CODEC, self.topics, ttl)
        await worker.handle([delivery(command) for command in commands])

    async def told(self, workflow: str) -> list[Answer]:
        """What was emitted, copies included."""
        return await emitted(self.db, INVENTORY, workflow)

    async def stock(self) -> tuple[int, ...]:
        """What is available, reserved and consumed."""
        row = await self.db.one(select(STOCK).where(STOCK.c.sku == self.sku))
        assert row is not None
        return tuple(row[figure] for figure in _FIGURES)

    async def adds_up(self) -> None:
        """The stock is the sum of its ledger, and what was received is all there."""
        sums = [func.sum(LEDGER.c[figure]).label(figure) for figure in _FIGURES]
        row = await self.db.one(select(*sums).where(LEDGER.c.sku == self.sku))
        assert row is not None
        assert tuple(int(row[figure]) for figure in _FIGURES) == await self.stock()
        assert sum(await self.stock()) == 10
        with self._engine.connect() as connection:
            assert drifts(connection, [self.sku]) == (1, [])

    async def state(self, workflow: str) -> Any:
        """Where the reservation stands."""
        row = await self.db.one(select(RESERVATIONS).where(RESERVATIONS.c.workflow_id == workflow))
        assert row is not None
        return row["state"]


@pytest_asyncio.fixture(loop_scope="module")
async def bench(namespace: Mapping[str, str]) -> AsyncIterator[Bench]:
    """Ten units."""
    settings = settings_for(namespace)
    db = await Database.open(settings.postgres_dsn, size=6)
    running = Bench(db, Topics(settings.namespace), settings.postgres_dsn)
    await running.handle(receive(running.sku, 10))
    yield running
    await db.close()


async def test_what_leaves_is_consumed_and_the_rest_released(bench: Bench) -> None:
    """The parcel held two of three; a repeat moves nothing, and the release that follows finds nothing."""
    workflow = new_workflow()
    await bench.handle(reserve(workflow, (bench.sku, 3)))
    for _ in range(2):
        await bench.handle(consume(workflow, (bench.sku, 2)))
    await bench.handle(release(workflow))
    _, left, copy, given = await bench.told(workflow)
    assert isinstance(left, StockConsumed)
    assert (left.lines, left.released) == ((Line(bench.sku, 2),), (Line(bench.sku, 1),))
    assert copy == left
    assert isinstance(given, StockReleased)
    assert given.lines == ()
    assert await bench.stock() == (8, 0, 2)
    await bench.adds_up()


async def test_all_of_it_in_one_batch(bench: Bench) -> None:
    """Held, gone and back again within one transaction, each with its own entry."""
    workflow = new_workflow()
    sku = bench.sku
    await bench.handle(reserve(workflow, (sku, 3)), consume(workflow, (sku, 3)), restock(workflow))
    assert [type(event).__name__ for event in await bench.told(workflow)] == [
        "StockReserved",
        "StockConsumed",
        "StockRestocked",
    ]
    assert await bench.stock() == (10, 0, 0)
    await bench.adds_up()


@pytest.mark.parametrize(
    ("undamaged", "lines", "state", "stock"),
    [(True, 2, "restocked", (10, 0, 0)), (False, 0, "written_off", (8, 0, 2))],
)
async def test_what_comes_back_undamaged_is_available(
    bench: Bench, undamaged: bool, lines: int, state: str, stock: tuple[int, ...]
) -> None:
    """The lines of an earlier batch, as they left; what is lost stays consumed."""
    workflow = new_workflow()
    await bench.handle(reserve(workflow, (bench.sku, 3)))
    await bench.handle(consume(workflow, (bench.sku, 2)))
    await bench.handle(restock(workflow, undamaged))
    await bench.handle(release(workflow))
    *_, back, _ = await bench.told(workflow)
    assert isinstance(back, StockRestocked)
    assert sum(line.quantity for line in back.lines) == lines
    assert await bench.state(workflow) == state
    assert await bench.stock() == stock
    await bench.adds_up()


async def test_restock_fences_a_consumption_that_comes_late(bench: Bench) -> None:
    """Nothing leaves any more; the hold is there until it is released."""
    workflow = new_workflow()
    await bench.handle(reserve(workflow, (bench.sku, 2)))
    await bench.handle(restock(workflow))
    await bench.handle(consume(workflow, (bench.sku, 2)))
    late = (await bench.told(workflow))[-1]
    assert isinstance(late, StockNotConsumed)
    assert late.reason == "fenced"
    await bench.handle(release(workflow))
    assert await bench.stock() == (10, 0, 0)
    await bench.adds_up()


async def test_more_than_is_held_does_not_leave(bench: Bench) -> None:
    """The hold stays, and the right quantity can still leave."""
    workflow = new_workflow()
    await bench.handle(reserve(workflow, (bench.sku, 2)), confirm(workflow))
    await bench.handle(consume(workflow, (bench.sku, 3)))
    await bench.handle(consume(workflow, (bench.sku, 2), attempt=2))
    short, left = (await bench.told(workflow))[-2:]
    assert isinstance(short, StockNotConsumed)
    assert short.reason == "short"
    assert isinstance(left, StockConsumed)
    assert await bench.stock() == (8, 0, 2)
    await bench.adds_up()


async def test_consumption_and_expiry_race_for_one_hold(bench: Bench) -> None:
    """Whoever commits first has it: the units are consumed, or available, and never both."""
    topics, db = bench.topics, bench.db
    flows = [new_workflow() for _ in range(5)]
    await bench.handle(*(hold(flow, (bench.sku, 2)) for flow in flows), ttl=timedelta(microseconds=1))
    await asyncio.gather(
        *(bench.handle(consume(flow, (bench.sku, 2))) for flow in flows),
        *(StockSweeper(db, CODEC, topics).sweep() for _ in range(3)),
    )
    kinds = [type((await bench.told(flow))[1]) for flow in flows]
    assert set(kinds) <= {StockConsumed, StockExpired}
    assert (await bench.stock())[2] == 2 * kinds.count(StockConsumed)
    await bench.adds_up()


async def test_many_processes_lose_no_unit(bench: Bench) -> None:
    """Every workflow in its own order, all at once."""

    async def one(number: int) -> None:
        flow, sku = new_workflow(), bench.sku
        await bench.handle(reserve(flow, (sku, 1)))
        await bench.handle(consume(flow, (sku, 1)))
        if number % 3:
            await bench.handle(restock(flow, undamaged=number % 3 == 1))
        await bench.handle(release(flow))

    await asyncio.gather(*(one(number) for number in range(9)))
    assert await bench.stock() == (4, 0, 6)
    await bench.adds_up()


@pytest.mark.parametrize(
    "entry",
    [
        "'consume', 0, -1, 2",
        "'consume', 1, -1, 0",
        "'restock', 1, 0, 0",
        "'restock', 0, 1, -1",
        "'expire', 0, -1, 1",
    ],
)
async def test_entry_that_makes_or_loses_units_is_refused(namespace: Mapping[str, str], entry: str) -> None:
    """The database holds each kind to its figures."""
    connection = psycopg2.connect(namespace["FULCRUM_POSTGRES_DSN"])
    with connection.cursor() as cursor, pytest.raises(psycopg2.errors.CheckViolation):
        cursor.execute(
            f"""INSERT INTO inventory.ledger (command_id, sku, kind, available, reserved, consumed,
                workflow_id, at) VALUES (gen_random_uuid(), 'tea', {entry}, gen_random_uuid(), now())"""
        )
    connection.close()
