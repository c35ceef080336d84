"""What does the guarded consumer ask aiokafka for?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from faust.types import TP

from fulcrum.agents.guard import GuardedConsumer

CHANGELOG = TP("changelog", 0)


async def test_a_fetch_keeps_its_partitions_when_recovery_empties_the_active_ones() -> None:
    """An empty set would mean every partition to aiokafka, held ones included."""
    active = {CHANGELOG}
    seen: list[Any] = []

    async def getmany(partitions: set[TP], timeout: float) -> dict[TP, list[Any]]:
        active.clear()
        seen.append(set(partitions))
        return {}

    consumer = GuardedConsumer.__new__(GuardedConsumer)
    consumer._thread = SimpleNamespace(getmany=getmany)
    await consumer._getmany(active, 1.0)

    assert seen == [{CHANGELOG}]
