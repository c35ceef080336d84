"""What pack jobs do while the warehouse floor is away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio
from deliveries import new_workflow
from eventually import eventually_async
from warehousebench import Bench, pack, warehouse_service

from fulcrum.saga.messages import OrderPacked

pytestmark = pytest.mark.asyncio(loop_scope="module")

_WITHIN = 20.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(namespace: Mapping[str, str]) -> AsyncIterator[Bench]:
    """A service that soon leaves a silent floor alone."""
    quick = {"warehouse_breaker_failures": 2, "warehouse_breaker_seconds": 0.3, "warehouse_sweep_after": 0.3}
    async with warehouse_service(namespace, **quick) as running:
        yield running


async def test_jobs_wait_for_a_floor_that_is_away(bench: Bench) -> None:
    """Commands are taken meanwhile; the floor is left alone, tried again, and everything is packed."""
    port = bench.simulator.port
    await bench.simulator.stop()
    orders = [pack(new_workflow(), ("tea", 1)) for _ in range(5)]
    await bench.handle(*orders)

    async def left_alone() -> bool:
        return bench.floor.left_alone

    await eventually_async(left_alone, within=_WITHIN)
    await bench.simulator.start(port)
    for order in orders:
        (packed,) = await bench.answered(order)
        assert isinstance(packed, OrderPacked)
    assert not bench.floor.left_alone
