"""Where a Faust consumer can be held still, so that a race goes the way that a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import faust
from eventually import eventually_async
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP, EventT

#: Seconds after which a wait is given up; nothing here takes more than a few on an idle machine.
WITHIN = 40.0
#: Seconds that a fetch waits for records.
_POLL_SECONDS = 0.1
_LOOK_SECONDS = 0.005


class Gate:
    """A point that calls pass, or at which they are held until the test opens it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open = asyncio.Event()
        self._open.set()
        self._held = 0

    def close(self) -> None:
        """Hold whoever comes by."""
        self._open.clear()

    def open(self) -> None:
        """Let everyone go."""
        self._open.set()

    async def passed(self) -> None:
        """Return once the gate is open."""
        self._held += 1
        await self._open.wait()
        self._held -= 1

    async def passed_in_thread(self) -> None:
        """The same from the loop of another thread."""
        self._held += 1
        while not self._open.is_set():  # noqa: ASYNC110  # an asyncio.Event belongs to one loop
            await asyncio.sleep(_LOOK_SECONDS)
        self._held -= 1

    async def reached(self) -> None:
        """Return once somebody is held."""

        async def held() -> bool:
            return self._held > 0 and not self._open.is_set()

        await eventually_async(held, within=WITHIN, state=lambda: f"nobody came to {self._name}")


class Gates:
    """Where a worker can be held."""

    def __init__(self) -> None:
        #: In a fetch that waits for records in the consumer's thread, and before its answer is looked at.
        self.fetch, self.answer = Gate("fetch"), Gate("answer")
        #: Before a recovery seeks to the committed offsets, and after it.
        self.seek, self.sought = Gate("seek"), Gate("sought")
        #: After recovery has sought the changelogs.
        self.restoring = Gate("restoring")
        #: Before a commit goes to the broker.
        self.commit = Gate("commit")
        #: Inside the agent, with an event in hand; and before a changelog's record is taken.
        self.agent, self.changelog = Gate("agent"), Gate("changelog")


class _HeldThread(AIOKafkaConsumerThread):
    """Faust's thread around aiokafka, with a gate before and after each fetch, and with short polls.

    aiokafka asks for offsets on the connection on which its fetch waits, so that a long poll would delay each
    rebalance.
    """

    async def on_start(self) -> None:
        await super().on_start()
        fetcher, gates = self._ensure_consumer()._fetcher, self.consumer.gates
        fetcher._fetch_max_wait_ms = int(_POLL_SECONDS * 1000)
        fetched_records = fetcher.fetched_records

        async def fetch(*args: Any, **kwargs: Any) -> Any:
            await gates.fetch.passed_in_thread()
            return await fetched_records(*args, **kwargs)

        fetcher.fetched_records = fetch

    async def getmany(self, active_partitions: Any, timeout: float) -> Any:
        consumer: Any = self.consumer
        live = getattr(consumer, "fetches_live_set", False)
        asked = consumer._active_partitions if live else active_partitions
        records = await super().getmany(asked, min(timeout, _POLL_SECONDS))
        await consumer.gates.answer.passed()
        consumer.fetches += 1
        return records


class Held:
    """Goes before a consumer class: the gates, and counts of what cannot be seen from outside."""

    gates: Gates

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Fetches that came back, and commits that were asked for.
        self.fetches = self.commits = 0
        #: Rounds that the fetcher has begun.
        self.rounds = 0
        self.fetcher: asyncio.Task[Any] | None = None
        #: Seconds slept for want of partitions, and how often there were none to read.
        self.naps: list[float] = []
        self.looks_in_vain = 0
        #: Commits that are to fail from now on.
        self.failing_commits = 0
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self: Any) -> AIOKafkaConsumerThread:
        return _HeldThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self: Any) -> None:
        """A recovery's seek, which the gates are for, or one of the fetcher's that found the flow stopped."""
        in_recovery = self.flow_active
        if in_recovery:
            await self.gates.seek.passed()
        await super().perform_seek()
        if in_recovery:
            await self.gates.sought.passed()

    async def seek_wait(self: Any, partitions: Mapping[TP, int]) -> None:
        await super().seek_wait(partitions)
        if asyncio.current_task() is not self.fetcher:
            await self.gates.restoring.passed()

    async def _wait_next_records(self: Any, timeout: float) -> Any:
        self.rounds += 1
        self.fetcher = asyncio.current_task()
        return await super()._wait_next_records(timeout)

    async def commit(self: Any, *args: Any, **kwargs: Any) -> bool:
        self.commits += 1
        return await super().commit(*args, **kwargs)

    async def _commit(self: Any, offsets: Mapping[TP, int]) -> bool:
        await self.gates.commit.passed()
        if self.failing_commits > 0:
            self.failing_commits -= 1
            return False  # what Faust makes of "already rebalanced"
        return await super()._commit(offsets)

    async def sleep(self: Any, n: float) -> None:
        if n:
            self.naps.append(n)
        await super().sleep(n)

    def _get_active_partitions(self: Any) -> Any:
        active = super()._get_active_partitions()
        self.looks_in_vain += not active
        return active


class HeldTable(faust.Table[bytes, bytes]):
    """A table whose recovery can be held."""

    gates: Gates

    async def on_changelog_event(self, event: EventT[Any]) -> None:
        await self.gates.changelog.passed()
        await super().on_changelog_event(event)
