"""How an order that waits for goods ends when they do not come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio
from deliveries import new_workflow
from warehousebench import Bench, cancel, pack, warehouse_service

from fulcrum.commands.accounts import enter_published
from fulcrum.commands.standing import overdue, settle
from fulcrum.saga.messages import OrderShort, PackRefused

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(namespace: Mapping[str, str]) -> AsyncIterator[Bench]:
    """A service that soon gives up waiting."""
    async with warehouse_service(namespace, backorder_wait=0.5) as running:
        yield running


async def test_a_wait_that_is_over_refuses_the_order(bench: Bench) -> None:
    """It is picked again from time to time, once more at the end, and put back."""
    workflow = new_workflow()
    order = pack(workflow, ("short1-tea", 2), ("pot", 1), on_short=("wait", "cancel_order"))
    short, refused = await bench.done(order)
    assert isinstance(short, OrderShort)
    assert isinstance(refused, PackRefused)
    assert (refused.reason, refused.short) == ("backorder_expired", short.short)
    assert refused.occurred_at >= short.waits_until
    units = bench.units(workflow)
    assert units["pick_again"] >= 2
    assert units["pick"] == units["put_back"]


async def test_a_new_attempt_waits_anew(bench: Bench) -> None:
    """The wait of the attempt that was refused is forgotten."""
    workflow = new_workflow()
    _, refused = await bench.done(pack(workflow, ("short-tea", 1), on_short="wait"))
    assert isinstance(refused, PackRefused)
    again = pack(workflow, ("tea", 1), on_short="wait", attempt=2)
    *_, packed = await bench.done(again)
    assert packed.command_id == again.command_id
    assert (await bench.row(workflow))["waits_until"] is None


async def test_an_order_that_waits_is_missed_by_nobody(bench: Bench) -> None:
    """Its command is taken, so it stands in no account of commands, however long its answer takes."""
    workflow = new_workflow()
    order, other = pack(workflow, ("slow-tea", 1)), cancel(new_workflow())
    for each in (order, other):
        kind = type(each).__name__
        await enter_published(bench.db, each.command_id, "warehouse", kind, each.workflow_id)
    await bench.handle(order)
    assert await bench.open_commands(workflow) == ["PackOrder"]
    assert await settle(bench.db) == 1
    (left,) = await overdue(bench.db, "warehouse", 0)
    assert left["command_id"] == other.command_id
    await bench.answered(order)
