"""Is a workflow that does not move found by itself, and forgotten once it moves?"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from client import Client, until
from stories import COMPLETES
from system import System

#: Seconds; the thresholds are those of every day.
FOUND_WITHIN = 30.0


def rows(system: System, workflow_id: str) -> list[dict[str, Any]]:
    """What ``fulcrum stuck list`` says of the workflow."""
    told = system.cli("stuck", "list", "--limit", "200", "--fail", "-o", "json")
    assert told.returncode in (0, 10), told.stderr
    found = [row for row in json.loads(told.stdout) if row["workflow_id"] == workflow_id]
    assert told.returncode == 10 or not found
    return found


async def test_a_stopped_worker_is_named_and_forgotten_once_it_is_back(
    system: System, client: Client
) -> None:
    """The list says who is missing and what to type, the sentence what is awaited; then all is well."""
    await system.until_all_ready()
    shelf = await client.stocked(1)
    await system.stop("inventory")
    try:
        posted = await client.post(COMPLETES, shelf.full)

        async def found() -> list[dict[str, Any]]:
            return await asyncio.to_thread(rows, system, posted.workflow_id)

        (row,) = await until(found, "the workflow is listed", within=FOUND_WITHIN)
        assert row["rule"] == "unacknowledged"
        assert "nobody takes commands of inventory" in row["detail"]
        assert row["suggestion"] == "fulcrum run inventory"
        why = await asyncio.to_thread(system.cli, "wf", "why", posted.workflow_id)
        assert "waiting on StockReserved" in why.stdout, why
    finally:
        await system.start("inventory")
    await client.until_final([posted])

    async def forgotten() -> bool:
        return not await asyncio.to_thread(rows, system, posted.workflow_id)

    await until(forgotten, "the workflow is forgotten", within=FOUND_WITHIN)
