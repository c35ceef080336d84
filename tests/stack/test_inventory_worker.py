"""Inventory commands on a real database: never more than there is, and the ledger adds up to the stock.

Long, because every race for a unit of stock is run on the same worker and database.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from uuid import uuid4

import pytest
import pytest_asyncio
from deliveries import (
    CODEC,
    delivery,
    emitted,
    new_workflow,
    outbox_rows,
    receive,
    release,
    reserve,
    settings_for,
)
from interleaved import interleave
from psycopg2.errors import RaiseException, UniqueViolation
from sqlalchemy import func, select, text

from fulcrum.commands.delivery import Delivery
from fulcrum.errors import Corrupt, Rejected
from fulcrum.saga import identity
from fulcrum.saga.messages import Answer, Command, Line, StockRejected, StockReleased, StockReserved
from fulcrum.store.database import Database, SerializationFailure
from fulcrum.wire.topics import Topics
from fulcrum.workers.inventory import InventoryWorker
from fulcrum.workers.inventory_relations import INVENTORY, LEDGER, RESERVATION_LINES, RESERVATIONS, STOCK

pytestmark = pytest.mark.asyncio(loop_scope="module")

_LEDGER_SUMS = select(
    LEDGER.c.sku,
    func.sum(LEDGER.c.available).label("available"),
    func.sum(LEDGER.c.reserved).label("reserved"),
).group_by(LEDGER.c.sku)
_HELD_SUMS = (
    select(RESERVATION_LINES.c.sku, func.sum(RESERVATION_LINES.c.quantity).label("quantity"))
    .join(RESERVATIONS, RESERVATIONS.c.workflow_id == RESERVATION_LINES.c.workflow_id)
    .where(RESERVATIONS.c.state == "held")
    .group_by(RESERVATION_LINES.c.sku)
)


class Bench:
    """One inventory service, and as many processes of it as a test asks for."""

    def __init__(self, db: Database, topics: Topics) -> None:
        self.db = db
        self.topics = topics

    def worker(self, *, wary: bool = False) -> InventoryWorker:
        """Another worker process; a wary one has just met another."""
        worker = InventoryWorker(self.db, CODEC, self.topics)
        worker._wary = 10 if wary else 0
        return worker

    async def handle(self, *commands: Command) -> None:
        """Carry ``commands`` out as one batch."""
        await self.worker().handle([delivery(command) for command in commands])

    async def stocked(self, units: int) -> str:
        """A new SKU with so many units."""
        sku = f"sku-{uuid4().hex[:8]}"
        await self.handle(receive(sku, units))
        return sku

    async def counts(self, sku: str) -> tuple[int, int, int]:
        """Available, reserved, and the version of the row."""
        row = await self.db.one(select(STOCK).where(STOCK.c.sku == sku))
        assert row is not None
        return row["available"], row["reserved"], row["version"]

    async def told(self, workflow: str) -> list[Answer]:
        """What was emitted, copies included."""
        return await emitted(self.db, INVENTORY, workflow)

    async def assert_conserved(self) -> None:
        """The ledger adds up to the stock, and what is held is what is reserved."""
        stock = {row["sku"]: row for row in await self.db.all(select(STOCK))}
        ledger = {row["sku"]: row for row in await self.db.all(_LEDGER_SUMS)}
        held = Counter({row["sku"]: int(row["quantity"]) for row in await self.db.all(_HELD_SUMS)})
        assert stock.keys() == ledger.keys()
        for sku, row in stock.items():
            assert (row["available"], row["reserved"]) == (ledger[sku]["available"], ledger[sku]["reserved"])
            assert row["reserved"] == held[sku]


#: The batch is read and decided upon, and nothing of it is written.
_WRITING = (InventoryWorker, "_write")


async def insist(worker: InventoryWorker, batch: Sequence[Delivery]) -> int:
    """Handle ``batch`` until nobody stands in its way; how often somebody did."""
    conflicts = 0
    while True:
        try:
            await worker.handle(batch)
        except SerializationFailure:
            conflicts += 1
        else:
            return conflicts


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(namespace: Mapping[str, str]) -> AsyncIterator[Bench]:
    """The service of this module."""
    settings = settings_for(namespace)
    db = await Database.open(settings.postgres_dsn, size=6)
    yield Bench(db, Topics(settings.namespace))
    await db.close()


# --- one command ----------------------------------------------------------------------------------


async def test_receipt_creates_and_adds_stock_without_an_event(bench: Bench) -> None:
    """Goods are available at once, and nobody waits for an answer."""
    sku = await bench.stocked(5)
    await bench.handle(receive(sku, 2))
    assert await bench.counts(sku) == (7, 0, 2)
    await bench.assert_conserved()


async def test_reservation_is_held_and_told(bench: Bench) -> None:
    """Stock row, reservation, ledger and event say the same."""
    sku, workflow = await bench.stocked(5), new_workflow()
    command = reserve(workflow, (sku, 1), (sku, 1))
    await bench.handle(command)
    assert await bench.counts(sku) == (3, 2, 2)
    (event,) = await bench.told(workflow)
    assert isinstance(event, StockReserved)
    assert event.event_id == identity.event_id(command.command_id, "StockReserved")
    assert (event.sequence, event.lines, event.expires_at) == (1, (Line(sku, 2),), None)
    (row,) = await outbox_rows(bench.db, INVENTORY, workflow)
    assert row["topic"] == bench.topics.stream("inventory")
    await bench.assert_conserved()


async def test_shortage_is_told_and_moves_nothing(bench: Bench) -> None:
    """All or nothing, on the database too: the row with enough keeps its version."""
    plenty, scarce, workflow = await bench.stocked(5), await bench.stocked(1), new_workflow()
    await bench.handle(reserve(workflow, (plenty, 1), (scarce, 2), ("no such sku", 1)))
    (event,) = await bench.told(workflow)
    assert isinstance(event, StockRejected)
    assert {(line.sku, line.requested, line.available) for line in event.short} == {
        (scarce, 2, 1),
        ("no such sku", 1, 0),
    }
    assert (await bench.counts(plenty), await bench.counts(scarce)) == ((5, 0, 1), (1, 0, 1))
    assert await bench.db.one(select(STOCK).where(STOCK.c.sku == "no such sku")) is None


async def test_release_gives_back_what_an_earlier_batch_held(bench: Bench) -> None:
    """The release names no lines: what was held is read."""
    sku, other, workflow = await bench.stocked(5), await bench.stocked(5), new_workflow()
    await bench.handle(reserve(workflow, (sku, 2), (other, 1)))
    await bench.handle(release(workflow))
    assert (await bench.counts(sku), await bench.counts(other)) == ((5, 0, 3), (5, 0, 3))
    event = (await bench.told(workflow))[-1]
    assert isinstance(event, StockReleased)
    assert (event.sequence, set(event.lines)) == (2, {Line(sku, 2), Line(other, 1)})
    await bench.assert_conserved()


async def test_release_first_leaves_a_fence(bench: Bench) -> None:
    """A release that overtakes its reservation is answered, and the reservation holds nothing."""
    sku, workflow = await bench.stocked(5), new_workflow()
    await bench.handle(release(workflow))
    await bench.handle(reserve(workflow, (sku, 1)))
    released, rejected = await bench.told(workflow)
    assert isinstance(released, StockReleased)
    assert isinstance(rejected, StockRejected)
    assert (released.lines, rejected.reason, rejected.sequence) == ((), "fenced", 2)
    assert await bench.counts(sku) == (5, 0, 1)


# --- repeats --------------------------------------------------------------------------------------


async def test_duplicate_gets_the_first_answer_again(bench: Bench) -> None:
    """One effect, and the very same message out again for each copy."""
    sku = await bench.stocked(5)
    command = reserve(new_workflow(), (sku, 2))
    for _ in range(3):
        await bench.handle(command)
    assert await bench.counts(sku) == (3, 2, 2)
    first, *others = await outbox_rows(bench.db, INVENTORY, command.workflow_id)
    assert len(others) == 2
    for other in others:
        assert {**other, "id": None, "created_at": None} == {**first, "id": None, "created_at": None}


async def test_duplicate_receipt_adds_once(bench: Bench) -> None:
    """A receipt without an answer is remembered all the same."""
    sku = await bench.stocked(1)
    command = receive(sku, 4)
    for _ in range(2):
        await bench.handle(command)
    assert await bench.counts(sku) == (5, 0, 2)


async def test_duplicates_and_news_share_a_batch(bench: Bench) -> None:
    """What is new takes effect, what is not is told again."""
    sku = await bench.stocked(10)
    old, new = reserve(new_workflow(), (sku, 1)), reserve(new_workflow(), (sku, 1))
    await bench.handle(old)
    await bench.handle(new, old)
    assert await bench.counts(sku) == (8, 2, 3)
    assert [event.sequence for event in await bench.told(old.workflow_id)] == [1, 1]
    assert [event.sequence for event in await bench.told(new.workflow_id)] == [1]


async def test_copies_in_one_batch_have_one_effect(bench: Bench) -> None:
    """The first one is carried out, and each is told the same."""
    sku = await bench.stocked(10)
    command = reserve(new_workflow(), (sku, 3))
    await bench.handle(command, reserve(new_workflow(), (sku, 1)), command)
    assert await bench.counts(sku) == (6, 4, 2)
    first, second = await bench.told(command.workflow_id)
    assert first == second


async def test_two_copies_at_once_have_one_effect(bench: Bench) -> None:
    """Six processes with the same command: units move once, and every copy is told the same."""
    sku = await bench.stocked(10)
    command = reserve(new_workflow(), (sku, 3))
    await asyncio.gather(*(insist(bench.worker(), [delivery(command)]) for _ in range(6)))
    assert await bench.counts(sku) == (7, 3, 2)
    events = await bench.told(command.workflow_id)
    assert len(events) == 6
    assert len(set(events)) == 1


async def test_same_id_with_another_body_is_refused(bench: Bench) -> None:
    """A command id stands for one body for ever."""
    sku, workflow = await bench.stocked(5), new_workflow()
    await bench.handle(reserve(workflow, (sku, 1)))
    with pytest.raises(Corrupt, match="another body"):
        await bench.handle(reserve(workflow, (sku, 2)))
    assert await bench.counts(sku) == (4, 1, 2)


# --- batches --------------------------------------------------------------------------------------


async def test_fifty_reservations_of_one_sku_write_its_row_once(bench: Bench) -> None:
    """A hot SKU: one transaction, one new version, and 30 of 50 get what there is, in order."""
    sku = await bench.stocked(30)
    flows = [new_workflow() for _ in range(50)]
    await bench.handle(*(reserve(flow, (sku, 1)) for flow in flows))
    assert await bench.counts(sku) == (0, 30, 2)
    events = [(await bench.told(flow))[0] for flow in flows]
    assert [type(event) for event in events] == [StockReserved] * 30 + [StockRejected] * 20
    await bench.assert_conserved()


async def test_batch_may_hold_several_commands_of_one_workflow(bench: Bench) -> None:
    """A refusal, a receipt, a new attempt and its release in one batch are answered 1, 2, 3."""
    sku, workflow = await bench.stocked(1), new_workflow()
    await bench.handle(
        reserve(workflow, (sku, 2)),
        receive(sku, 1),
        reserve(workflow, (sku, 2), attempt=2),
        release(workflow),
    )
    assert [(type(event).__name__, event.sequence) for event in await bench.told(workflow)] == [
        ("StockRejected", 1),
        ("StockReserved", 2),
        ("StockReleased", 3),
    ]
    assert await bench.counts(sku) == (2, 0, 2)
    await bench.assert_conserved()


async def test_batch_may_move_a_known_reservation_on_twice(bench: Bench) -> None:
    """A new attempt and its release, after an earlier batch refused: no conflict with itself."""
    sku, workflow = await bench.stocked(1), new_workflow()
    await bench.handle(reserve(workflow, (sku, 2)))
    await bench.handle(receive(sku, 1))
    await bench.handle(reserve(workflow, (sku, 2), attempt=2), release(workflow))
    assert [event.sequence for event in await bench.told(workflow)] == [1, 2, 3]
    assert await bench.counts(sku) == (2, 0, 3)
    await bench.assert_conserved()


async def test_batch_fails_as_a_whole(bench: Bench) -> None:
    """One command that makes no sense leaves no trace of its neighbours, nor of their claims."""
    sku, workflow = await bench.stocked(5), new_workflow()
    good, bad = reserve(workflow, (sku, 1)), receive(sku, 0)
    with pytest.raises(Rejected, match="quantity 0"):
        await bench.handle(good, bad)
    assert await bench.counts(sku) == (5, 0, 1)
    assert await bench.told(workflow) == []
    await bench.handle(good)
    assert await bench.counts(sku) == (4, 1, 2)


# --- in each other's way --------------------------------------------------------------------------


async def test_stock_that_moved_meanwhile_is_decided_upon_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last unit is promised once: who writes second sees what is left."""
    sku = await bench.stocked(1)
    first, second = reserve(new_workflow(), (sku, 1)), reserve(new_workflow(), (sku, 1))
    await interleave(monkeypatch, bench.db, _WRITING, bench.handle(second), lambda: bench.handle(first))
    assert await bench.counts(sku) == (0, 1, 2)
    assert [type(event) for event in await bench.told(first.workflow_id)] == [StockReserved]
    assert [type(event) for event in await bench.told(second.workflow_id)] == [StockRejected]
    await bench.assert_conserved()


async def test_sku_that_was_created_meanwhile_is_added_to(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two first receipts of a SKU both count."""
    sku = f"sku-{uuid4().hex[:8]}"
    first, second = receive(sku, 3), receive(sku, 2)
    await interleave(monkeypatch, bench.db, _WRITING, bench.handle(second), lambda: bench.handle(first))
    assert await bench.counts(sku) == (5, 0, 2)


async def test_reservation_that_was_created_meanwhile_is_a_fence(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that comes between reading and writing is not overwritten."""
    sku, workflow = await bench.stocked(5), new_workflow()
    late, undo = reserve(workflow, (sku, 1)), release(workflow)
    await interleave(monkeypatch, bench.db, _WRITING, bench.handle(late), lambda: bench.handle(undo))
    released, rejected = await bench.told(workflow)
    assert isinstance(released, StockReleased)
    assert isinstance(rejected, StockRejected)
    assert (rejected.reason, rejected.sequence) == ("fenced", 2)
    assert await bench.counts(sku) == (5, 0, 1)


async def test_reservation_that_is_known_changes_hands_one_batch_at_a_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither command moves stock, so only the reservation's own row can keep their numbers apart."""
    sku, workflow = await bench.stocked(1), new_workflow()
    await bench.handle(reserve(workflow, (sku, 9)))
    again, undo = reserve(workflow, (sku, 9), attempt=2), release(workflow)
    await interleave(monkeypatch, bench.db, _WRITING, bench.handle(again), lambda: bench.handle(undo))
    assert [event.sequence for event in await bench.told(workflow)] == [1, 2, 3]


async def test_release_that_overtakes_a_reservation_in_the_making_fences_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without locks the release is first, and the reservation is decided again behind the fence."""
    sku, workflow = await bench.stocked(5), new_workflow()
    await bench.handle(reserve(workflow, (sku, 9)))
    held, undo = reserve(workflow, (sku, 2), attempt=2), release(workflow, attempt=2)
    await interleave(monkeypatch, bench.db, _WRITING, bench.handle(held), lambda: bench.handle(undo))
    last = (await bench.told(workflow))[-1]
    assert isinstance(last, StockRejected)
    assert (last.reason, last.sequence) == ("fenced", 3)
    assert await bench.counts(sku) == (5, 0, 1)


async def test_copy_that_took_effect_meanwhile_is_answered_as_it_was(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that is not in the inbox when it is looked for may be there when it is written."""
    sku = await bench.stocked(5)
    command = reserve(new_workflow(), (sku, 2))
    await interleave(monkeypatch, bench.db, _WRITING, bench.handle(command), lambda: bench.handle(command))
    assert await bench.counts(sku) == (3, 2, 2)
    first, second = await bench.told(command.workflow_id)
    assert first == second


async def test_worker_that_met_another_locks_for_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one waits then, instead of deciding in vain."""
    sku = await bench.stocked(5)
    wary = bench.worker(wary=True)
    first, second = (reserve(new_workflow(), (sku, 1)) for _ in range(2))
    waiting = bench.worker(wary=True)
    await interleave(
        monkeypatch,
        bench.db,
        _WRITING,
        wary.handle([delivery(first)]),
        lambda: waiting.handle([delivery(second)]),
    )
    assert (wary._wary, waiting._wary) == (9, 9), "nobody met anybody"
    assert await bench.counts(sku) == (3, 2, 3)


async def test_lines_that_are_being_made_are_given_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that meets a reservation in the making, under its lock, releases what that one holds."""
    sku, workflow = await bench.stocked(5), new_workflow()
    await bench.handle(reserve(workflow, (sku, 9)))
    held, undo = reserve(workflow, (sku, 2), attempt=2), release(workflow, attempt=2)
    holding = bench.worker(wary=True).handle([delivery(held)])
    await interleave(monkeypatch, bench.db, _WRITING, holding, lambda: bench.handle(undo))
    last = (await bench.told(workflow))[-1]
    assert isinstance(last, StockReleased)
    assert last.lines == (Line(sku, 2),)
    assert await bench.counts(sku) == (5, 0, 3)
    await bench.assert_conserved()


async def test_reservation_that_began_meanwhile_is_not_skipped_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch with two commands of a new workflow does not take another's first answer for its own."""
    sku, workflow = await bench.stocked(1), new_workflow()
    batch = [reserve(workflow, (sku, 1), attempt=2), release(workflow)]
    first = reserve(workflow, (sku, 9))
    await interleave(monkeypatch, bench.db, _WRITING, bench.handle(*batch), lambda: bench.handle(first))
    assert [event.sequence for event in await bench.told(workflow)] == [1, 2, 3]
    await bench.assert_conserved()


async def test_effect_that_the_inbox_forgot_is_not_repeated(bench: Bench) -> None:
    """The ledger refuses a second entry of one command and SKU, however long ago the first was."""
    sku = f"sku-{uuid4().hex[:8]}"
    command = receive(sku, 5)
    await bench.handle(command)
    inbox = INVENTORY.inbox
    await bench.db.execute(inbox.delete().where(inbox.c.message_id == command.command_id))
    with pytest.raises(UniqueViolation, match="ledger_pkey"):
        await bench.handle(command)
    assert await bench.counts(sku) == (5, 0, 1)


async def test_parallel_batches_on_one_sku_never_oversell(bench: Bench) -> None:
    """Two processes, 90 reservations, 50 units: 50 are held, 40 refused, and nothing is lost."""
    sku = await bench.stocked(50)
    flows = [new_workflow() for _ in range(90)]
    batches = [
        [delivery(reserve(flow, (sku, 1))) for flow in flows[start : start + 5]] for start in range(0, 90, 5)
    ]

    async def process(mine: Sequence[list[Delivery]]) -> int:
        worker = bench.worker()
        return sum([await insist(worker, batch) for batch in mine])

    await asyncio.gather(process(batches[::2]), process(batches[1::2]))
    outcomes = Counter([type((await bench.told(flow))[0]) for flow in flows])
    assert outcomes == {StockReserved: 50, StockRejected: 40}
    available, reserved, version = await bench.counts(sku)
    assert (available, reserved) == (0, 50)
    assert version <= 1 + len(batches)
    await bench.assert_conserved()


@pytest.mark.parametrize("seed", range(3))
async def test_parallel_processes_conserve_what_they_move(bench: Bench, seed: int) -> None:
    """Three processes, many SKUs in any order, copies and releases: every unit is accounted for."""
    chance = random.Random(seed)
    skus = [await bench.stocked(6) for _ in range(4)]
    flows = [new_workflow() for _ in range(30)]
    commands: list[Command] = [release(flow) for flow in flows[:15]]
    commands += [receive(chance.choice(skus), 1) for _ in range(8)]
    for flow in flows:
        wanted = chance.sample(skus, chance.randint(1, 4))
        commands.append(reserve(flow, *((sku, chance.randint(1, 2)) for sku in wanted)))

    async def process(mine: list[Command]) -> None:
        worker = bench.worker()
        while mine:
            size = chance.randint(1, 6)
            await insist(worker, [delivery(command) for command in mine[:size]])
            mine = mine[size:]

    await asyncio.gather(*(process(chance.sample(commands, len(commands))) for _ in range(3)))
    await bench.assert_conserved()
    for flow in flows:
        events = await bench.told(flow)
        distinct = {event.event_id: event for event in events}
        assert set(events) == set(distinct.values())
        assert sorted(event.sequence for event in distinct.values()) == list(range(1, len(distinct) + 1))
    for flow in flows[:15]:
        row = await bench.db.one(select(RESERVATIONS).where(RESERVATIONS.c.workflow_id == flow))
        assert row is not None
        assert row["state"] == "released"


async def test_ledger_refuses_to_be_changed(bench: Bench) -> None:
    """Only another entry corrects an entry."""
    sku = await bench.stocked(1)
    for statement in ("UPDATE inventory.ledger SET available = 2", "DELETE FROM inventory.ledger"):
        with pytest.raises(RaiseException, match="only grows"):
            await bench.db.execute(text(statement))
    assert await bench.counts(sku) == (1, 0, 1)
