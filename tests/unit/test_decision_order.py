"""When may a decision leave? Once Kafka has the state that names it, and behind those before it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, cast

from fulcrum.agents.orchestrator import Orchestrator
from fulcrum.saga.run import Unsent


class Told(Orchestrator):
    """An orchestrator that notes what it sends; the first takes its time."""

    def __init__(self) -> None:
        self._turns = defaultdict(asyncio.Lock)
        self.sent: list[int] = []

    async def _send(self, event: Any, cause: Any, run: Any, unsent: Unsent) -> asyncio.Future[Any]:
        if unsent.version == 1:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        self.sent.append(unsent.version)
        acknowledged: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        acknowledged.set_result(None)
        return acknowledged


EVENT = cast(Any, SimpleNamespace(message=SimpleNamespace(partition=3)))
NOTHING = cast(Any, None)


def version(number: int) -> Unsent:
    """A decision that is not sent yet."""
    return Unsent(version=number, record=b"")


async def test_a_decision_waits_for_its_state_and_for_those_before_it() -> None:
    """If the state were lost with the process, the next one might decide otherwise."""
    told = Told()
    first, second = (asyncio.get_running_loop().create_future() for _ in range(2))
    sending = [
        asyncio.ensure_future(told._send_after(first, EVENT, NOTHING, NOTHING, [version(1), version(2)])),
        asyncio.ensure_future(told._send_after(second, EVENT, NOTHING, NOTHING, [version(3)])),
    ]
    await asyncio.wait(sending, timeout=0.01)
    assert told.sent == []

    first.set_result(None)
    second.set_result(None)
    await asyncio.gather(*sending)

    assert told.sent == [1, 2, 3]
