"""Reservations that lapse, on a real database: each is given back once, or kept, and never both.

Long, because an expiry is raced with everything else that moves a reservation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta

import pytest
import pytest_asyncio
from deliveries import (
    CODEC,
    CORRELATION,
    confirm,
    delivery,
    emitted,
    hold,
    new_workflow,
    outbox_rows,
    receive,
    release,
    reserve,
    settings_for,
)
from eventually import eventually_async
from interleaved import interleave
from sqlalchemy import func, select, text, update

from fulcrum.doctor.in_postgres import violations
from fulcrum.saga.messages import (
    Answer,
    Command,
    Line,
    StockConfirmed,
    StockExpired,
    StockNotConfirmed,
    StockRejected,
    StockReleased,
    StockReserved,
)
from fulcrum.store import outbox
from fulcrum.store.database import Database, Transaction
from fulcrum.wire.topics import Topics
from fulcrum.workers import stockroom_store
from fulcrum.workers.inventory import InventoryWorker
from fulcrum.workers.inventory_relations import INVENTORY, LEDGER, RESERVATIONS, STOCK
from fulcrum.workers.stock_sweeper import StockSweeper

pytestmark = pytest.mark.asyncio(loop_scope="module")

_TTL = timedelta(hours=1)
_SUMS = ("stock equals its ledger", "what is reserved is what runs hold")


class Bench:
    """One inventory service whose reservations lapse, and whose clock a test may move."""

    def __init__(self, db: Database, topics: Topics, env: Mapping[str, str]) -> None:
        self.db = db
        self.topics = topics
        self.env = env

    def sweeper(self) -> StockSweeper:
        """Another sweeper process."""
        return StockSweeper(self.db, CODEC, self.topics)

    async def handle(self, *commands: Command) -> None:
        """Carry ``commands`` out as one batch, in a worker process of their own."""
        worker = InventoryWorker(self.db, CODEC, self.topics, _TTL)
        await worker.handle([delivery(command) for command in commands])

    async def held(self, units: int = 5, wanted: int = 2) -> tuple[str, str]:
        """A SKU with so many units, and a workflow that holds some of them."""
        workflow = new_workflow()
        sku = f"sku-{workflow[:8]}"
        await self.handle(receive(sku, units))
        await self.handle(hold(workflow, (sku, wanted)))
        return sku, workflow

    async def lapse(self, *workflows: str) -> None:
        """Their time has come."""
        past = func.clock_timestamp() - text("interval '1 second'")
        statement = update(RESERVATIONS).where(RESERVATIONS.c.workflow_id.in_(workflows))
        assert await self.db.execute(statement.values(expires_at=past)) == len(workflows)

    async def state(self, workflow: str) -> str:
        """Where the reservation stands."""
        row = await self.db.one(select(RESERVATIONS).where(RESERVATIONS.c.workflow_id == workflow))
        assert row is not None
        return str(row["state"])

    async def counts(self, sku: str) -> tuple[int, int]:
        """Available and reserved."""
        row = await self.db.one(select(STOCK).where(STOCK.c.sku == sku))
        assert row is not None
        return row["available"], row["reserved"]

    async def told(self, workflow: str) -> list[Answer]:
        """What was emitted."""
        return await emitted(self.db, INVENTORY, workflow)

    def assert_conserved(self) -> None:
        """Stock, ledger and reservations agree."""
        assert violations(self.env, _SUMS) == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(namespace: Mapping[str, str]) -> AsyncIterator[Bench]:
    """The service of this module."""
    settings = settings_for(namespace)
    db = await Database.open(settings.postgres_dsn, size=8)
    yield Bench(db, Topics(settings.namespace), namespace)
    await db.close()


# --- the sweeper ----------------------------------------------------------------------------------


async def test_what_has_lapsed_is_given_back_and_told(bench: Bench) -> None:
    """Stock, reservation, ledger and event say the same; the event goes on with the hold's own story."""
    sku, workflow = await bench.held()
    (reserved,) = await bench.told(workflow)
    assert isinstance(reserved, StockReserved)
    assert reserved.expires_at == reserved.occurred_at + _TTL
    await bench.lapse(workflow)

    assert await bench.sweeper().sweep() == 1

    assert await bench.counts(sku) == (5, 0)
    assert await bench.state(workflow) == "expired"
    event = (await bench.told(workflow))[-1]
    assert isinstance(event, StockExpired)
    assert (event.sequence, event.lines) == (2, (Line(sku, 2),))
    assert event.command_id == reserved.command_id
    headers = (await outbox_rows(bench.db, INVENTORY, workflow))[-1]["headers"]
    assert headers["fulcrum-correlation-id"] == CORRELATION
    entries = await bench.db.all(select(LEDGER).where(LEDGER.c.workflow_id == workflow))
    assert sorted(entry["kind"] for entry in entries) == ["expire", "reserve"]
    bench.assert_conserved()


async def test_what_has_not_lapsed_stays(bench: Bench) -> None:
    """Neither a hold whose time has not come, nor a reservation without one."""
    sku, _ = await bench.held()
    for_good = new_workflow()
    await bench.handle(reserve(for_good, (sku, 1)))
    assert await bench.sweeper().sweep() == 0
    assert await bench.counts(sku) == (2, 3)
    assert (await bench.told(for_good))[0].expires_at is None  # type: ignore[attr-defined]


async def test_two_sweepers_expire_each_reservation_once(bench: Bench) -> None:
    """What one of them holds the other skips; nothing is told twice."""
    made = [await bench.held() for _ in range(6)]
    await bench.lapse(*(workflow for _, workflow in made))
    swept = await asyncio.gather(*(bench.sweeper().sweep() for _ in range(3)))
    assert sum(swept) == 6
    for sku, workflow in made:
        assert await bench.counts(sku) == (5, 0)
        assert [type(event) for event in await bench.told(workflow)] == [StockReserved, StockExpired]
    bench.assert_conserved()


async def test_sweeper_that_dies_leaves_its_work_to_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled after everything was decided and before it was committed: nothing happened."""
    sku, workflow = await bench.held()
    await bench.lapse(workflow)
    reached = asyncio.Event()

    async def dying(*_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(outbox, "add", dying)
        sweep = asyncio.create_task(bench.sweeper().sweep())
        await reached.wait()
        sweep.cancel()
        await asyncio.gather(sweep, return_exceptions=True)
    assert (await bench.state(workflow), await bench.counts(sku)) == ("held", (3, 2))

    async def swept() -> bool:
        await bench.sweeper().sweep()  # the server may need a moment to see that the first one is gone
        return await bench.state(workflow) == "expired"

    await eventually_async(swept, within=10)
    assert await bench.counts(sku) == (5, 0)
    assert len(await bench.told(workflow)) == 2
    bench.assert_conserved()


async def test_sweeper_runs_until_it_is_stopped(bench: Bench) -> None:
    """It finds what lapses while it runs."""
    stop = asyncio.Event()
    running = asyncio.create_task(bench.sweeper().run(stop))
    _, workflow = await bench.held()
    await bench.lapse(workflow)

    async def expired() -> bool:
        return await bench.state(workflow) == "expired"

    await eventually_async(expired, within=10)
    stop.set()
    await running


# --- against a release ----------------------------------------------------------------------------


async def test_release_after_the_expiry_gives_back_nothing_more(bench: Bench) -> None:
    """It is answered, and leaves its fence."""
    sku, workflow = await bench.held()
    await bench.lapse(workflow)
    await bench.sweeper().sweep()
    await bench.handle(release(workflow))
    event = (await bench.told(workflow))[-1]
    assert isinstance(event, StockReleased)
    assert (event.sequence, event.lines) == (3, ())
    assert await bench.counts(sku) == (5, 0)
    assert await bench.state(workflow) == "released"


async def test_expiry_after_the_release_does_nothing(bench: Bench) -> None:
    """What is released has no time at which it lapses."""
    sku, workflow = await bench.held()
    await bench.lapse(workflow)
    await bench.handle(release(workflow))
    assert await bench.sweeper().sweep() == 0
    assert await bench.counts(sku) == (5, 0)
    assert [type(event) for event in await bench.told(workflow)] == [StockReserved, StockReleased]


async def test_hold_after_the_expiry_is_refused(bench: Bench) -> None:
    """The run was told that it lost its stock, so nothing may be held for it any more."""
    sku, workflow = await bench.held()
    await bench.lapse(workflow)
    await bench.sweeper().sweep()
    await bench.handle(hold(workflow, (sku, 1), attempt=2))
    event = (await bench.told(workflow))[-1]
    assert isinstance(event, StockRejected)
    assert (event.reason, event.sequence) == ("expired", 3)


# --- against a confirmation -----------------------------------------------------------------------


async def test_confirmed_stock_does_not_lapse(bench: Bench) -> None:
    """The row decides, not the time: a confirmation that comes before the sweeper is in time."""
    sku, workflow = await bench.held()
    await bench.lapse(workflow)
    await bench.handle(confirm(workflow))
    assert await bench.sweeper().sweep() == 0
    assert await bench.state(workflow) == "confirmed"
    event = (await bench.told(workflow))[-1]
    assert isinstance(event, StockConfirmed)
    assert (event.sequence, event.lines) == (2, (Line(sku, 2),))
    assert await bench.counts(sku) == (3, 2)
    bench.assert_conserved()


async def test_confirmed_stock_can_be_released(bench: Bench) -> None:
    """A run that is undone after all gives it back."""
    sku, workflow = await bench.held()
    await bench.handle(confirm(workflow))
    await bench.handle(release(workflow))
    assert await bench.counts(sku) == (5, 0)
    bench.assert_conserved()


@pytest.mark.parametrize("lost", ["expired", "released", "not_reserved"])
async def test_confirmation_of_what_is_not_held_says_why(bench: Bench, lost: str) -> None:
    """Nothing is confirmed, and the reason is where the reservation stands."""
    _, workflow = await bench.held()
    if lost == "expired":
        await bench.lapse(workflow)
        await bench.sweeper().sweep()
    elif lost == "released":
        await bench.handle(release(workflow))
    else:
        workflow = new_workflow()
    await bench.handle(confirm(workflow))
    event = (await bench.told(workflow))[-1]
    assert isinstance(event, StockNotConfirmed)
    assert event.reason == lost


# --- at the same time -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", [release, confirm])
async def test_expiry_that_comes_in_the_middle_of_a_command_wins(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, command: type[Command]
) -> None:
    """The command was decided on a held reservation, and is decided again on an expired one."""
    sku, workflow = await bench.held()
    await bench.lapse(workflow)

    async def sweep() -> None:
        await bench.sweeper().sweep()

    point = (InventoryWorker, "_write")
    await interleave(monkeypatch, bench.db, point, bench.handle(command(workflow)), sweep)  # type: ignore[call-arg]
    _, expired, last = await bench.told(workflow)
    assert isinstance(expired, StockExpired)
    assert isinstance(last, StockReleased | StockNotConfirmed)
    assert await bench.counts(sku) == (5, 0)
    bench.assert_conserved()


@pytest.mark.parametrize("command", [release, confirm])
async def test_command_that_comes_in_the_middle_of_an_expiry_waits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, command: type[Command]
) -> None:
    """The sweeper holds the reservation: the command is decided again on what it has made of it."""
    sku, workflow = await bench.held()
    await bench.lapse(workflow)

    async def sweep() -> None:
        await bench.sweeper().sweep()

    point = (stockroom_store, "_found")
    await interleave(monkeypatch, bench.db, point, sweep(), lambda: bench.handle(command(workflow)))  # type: ignore[call-arg]
    events = await bench.told(workflow)
    assert [event.sequence for event in events] == [1, 2, 3]
    assert isinstance(events[1], StockExpired)
    assert await bench.counts(sku) == (5, 0)
    bench.assert_conserved()


async def test_expiry_release_and_confirmation_all_at_once(bench: Bench) -> None:
    """Whoever is first wins; every unit comes back once, and the events are numbered without gaps."""
    made = [await bench.held() for _ in range(10)]
    await bench.lapse(*(workflow for _, workflow in made))
    await asyncio.gather(
        *(bench.handle(confirm(workflow)) for _, workflow in made),
        *(bench.sweeper().sweep() for _ in range(3)),
        *(bench.handle(release(workflow)) for _, workflow in made),
    )
    for sku, workflow in made:
        assert await bench.counts(sku) == (5, 0)
        assert await bench.state(workflow) == "released"
        events = await bench.told(workflow)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    bench.assert_conserved()


async def test_sweep_takes_a_transaction_and_not_the_whole_table(bench: Bench) -> None:
    """A backlog is worked off in bounded steps, so that hot stock is never locked for long."""
    made = [await bench.held() for _ in range(3)]
    await bench.lapse(*(workflow for _, workflow in made))
    async with bench.db.transaction() as tx:
        assert isinstance(tx, Transaction)
        found = await stockroom_store.read_lapsed(tx, 2)
        assert len(found.room.reservations) == 2
    assert await bench.sweeper().sweep() == 3
