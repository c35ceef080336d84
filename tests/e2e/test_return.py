"""Is work taken up at once when a role returns at another address, while Kafka still keeps its place?"""

from __future__ import annotations

import asyncio

from client import Client
from eventually import eventually_async
from stories import COMPLETES
from system import System


async def test_agents_that_return_at_another_address_go_on_at_once(system: System, client: Client) -> None:
    """As after a second `make demo`, or when a container is replaced: same instance, another port."""
    await system.until_all_ready()
    shelf = await client.stocked(2)
    await system.stop("agents")
    waiting = await client.post(COMPLETES, shelf.full)
    supervisor = system.running.supervisor
    elsewhere = await asyncio.to_thread(supervisor.start, "agents", name="agents-elsewhere")
    try:
        await eventually_async(
            lambda: asyncio.to_thread(elsewhere.answers),
            within=14,  # less than the session timeout, after which Kafka would have dealt anew by itself
            state=lambda: elsewhere.log.read_text()[-3000:],
        )
        assert elsewhere.url != system.role("agents").url
        await client.until_final([waiting])
        shown = await client.insist("GET", f"{elsewhere.url}/runs/{waiting.workflow_id}")
        assert shown.json["status"] == "completed", shown
    finally:
        await system.stop("agents-elsewhere")
        await system.start("agents")
    await client.until_final([await client.post(COMPLETES, shelf.full)])
