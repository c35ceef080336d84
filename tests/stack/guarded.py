"""A Faust worker in the test's own process that a test can hold still at any point of its reading.

It is built like the product's processes, on a topic of its own in the real broker. Which consumer it runs on
is a parameter, so that one override of the guard can be taken out. Races are not hoped for: a ``Gate`` holds
one side of them until the test lets it go.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from eventually import eventually_async
from faust.assignor.partition_assignor import PartitionAssignor
from faust.transport.drivers.aiokafka import Producer
from faust.types import TP, EventT
from groupsite import PARTITIONS, Site
from held import WITHIN, Gates, Held, HeldTable

from fulcrum.agents.app import GuardedApp, bytes_topic, create_app
from fulcrum.agents.assignor import ReturningAssignor
from fulcrum.agents.guard import GuardedConsumer, GuardedProducer, GuardedTransport
from fulcrum.agents.safety import feed
from fulcrum.settings import Settings
from fulcrum.telemetry import metrics


class Worker:
    """A running app: what it was handed, and what of it is finished."""

    def __init__(self, app: GuardedApp, site: Site, gates: Gates) -> None:
        self.app, self.site, self.gates = app, site, gates
        #: Every event in the order in which the agent was handed it, as (partition, offset).
        self.handed: list[tuple[int, int]] = []
        #: The topics of events that came from elsewhere.
        self.others: list[str] = []
        self.events: dict[tuple[int, int], list[EventT[Any]]] = defaultdict(list)
        #: Finish every event as soon as it comes.
        self.finishing = False
        table = type("HeldTable", (HeldTable,), {"gates": gates})
        self.table = app.tables.add(
            table(app, name="seen", key_type=bytes, value_type=bytes, partitions=PARTITIONS)
        )
        self.writing = False

    @property
    def consumer(self) -> Any:
        """The app's consumer, whichever class it is of."""
        return self.app.consumer

    @property
    def aiokafka(self) -> Any:
        """The client inside Faust's consumer."""
        return self.consumer._thread._ensure_consumer()

    async def handle(self, event: EventT[Any]) -> None:
        """Note the event, and wait with it in hand while the gate is closed."""
        if event.message.topic != self.site.topic:
            self.others.append(event.message.topic)
            return
        place = event.message.partition, event.message.offset
        self.handed.append(place)
        self.events[place].append(event)
        if self.writing:
            self.table[event.message.key] = event.message.value
        if self.finishing:
            event.ack()
        await self.gates.agent.passed()

    def offsets(self, partition: int) -> list[int]:
        """The offsets of one partition in the order in which they were handed out."""
        return [offset for p, offset in self.handed if p == partition]

    def finish(self, partition: int, *offsets: int) -> None:
        """These events are finished, every time they were handed out."""
        for offset in offsets:
            for event in self.events[partition, offset]:
                event.ack()

    async def until_handed(self, partition: int, *offsets: int) -> None:
        """Wait until the agent was handed all of these."""
        await self.until(lambda: set(offsets) <= set(self.offsets(partition)))

    async def until(self, condition: Any) -> None:
        """Wait for a condition of the worker."""

        async def holds() -> Any:
            return condition()

        await eventually_async(holds, within=WITHIN, state=self.describe)

    async def until_settled(self, rebalances: int) -> None:
        """Wait until the group was dealt anew so many times and the worker is at work again."""
        await self.until(lambda: self.app.rebalancing_count >= rebalances and not self.app.rebalancing)

    def ask_to_rejoin(self) -> None:
        """Have the group dealt anew; returns at once."""
        thread = self.consumer._thread
        thread.thread_loop.call_soon_threadsafe(self.aiokafka._coordinator.request_rejoin)

    async def rebalance(self) -> None:
        """Have the group dealt anew, and wait until the worker is at work again."""
        count = self.app.rebalancing_count
        self.ask_to_rejoin()
        await self.until_settled(count + 1)

    async def until_read(self, partition: int, end: int) -> None:
        """Wait until aiokafka stands at ``end`` to stay; what was not handed out by then never will be."""
        seen = -1

        def still_there() -> bool:
            nonlocal seen
            if self.position(partition) != end:
                seen = -1
            elif seen < 0:
                seen = self.consumer.fetches
            return 0 <= seen <= self.consumer.fetches - 3

        await self.until(still_there)

    def position(self, partition: int) -> int | None:
        """From where aiokafka reads on."""
        return self.position_of(self.site.tp(partition))

    def position_of(self, tp: TP) -> int | None:
        """The same of any partition."""
        state = self.aiokafka._subscription.subscription.assignment.state_value(tp)
        return state._position if state is not None else None

    async def until_fetches(self, count: int) -> None:
        """Wait until so many more fetches have come back."""
        wanted = self.consumer.fetches + count
        await self.until(lambda: self.consumer.fetches >= wanted)

    async def until_buffered(self, partition: int) -> None:
        """Wait until aiokafka has events of this partition at hand."""
        await self.until(lambda: self.site.tp(partition) in self.aiokafka._fetcher._records)

    async def committed(self, partition: int) -> int | None:
        """What the broker has as committed."""
        return await asyncio.to_thread(self.site.committed, partition)

    async def until_committed(self, partition: int, offset: int) -> None:
        """Wait until the broker has this as committed."""

        async def there() -> bool:
            return await self.committed(partition) == offset

        await eventually_async(there, within=WITHIN, state=self.describe)

    async def append(self, partition: int, count: int) -> None:
        """Write events at the end of a partition."""
        await asyncio.to_thread(self.site.append, partition, count)

    def rejoining(self) -> bool:
        """Whether the group is being dealt anew, or about to be."""
        return self.app.rebalancing or self.aiokafka._coordinator._rejoin_needed_fut.done()

    def left_for_good(self) -> bool:
        """Whether aiokafka has given the group up, after which Faust waits for ever."""
        return self.aiokafka._coordinator._coordination_task.done()

    def gaps(self) -> float:
        """How often the guard has read again what was dropped on the way."""
        return metrics.stream_gaps.labels(topic=self.site.topic)._value.get()

    def describe(self) -> str:
        """What to show when a wait is given up."""
        consumer = self.consumer
        return (
            f"handed {self.handed}, rebalances {self.app.rebalancing_count}, "
            f"rebalancing {self.app.rebalancing}, active {consumer._active_partitions}, "
            f"expected {getattr(consumer, '_expected', None)}, read {dict(consumer._read_offset)}, "
            f"positions {[self.position(p) for p in range(PARTITIONS)]}"
        )


async def _at_once(*_: Any) -> None:
    """Stands for a wait that the tests have no use for."""


@asynccontextmanager
async def worker(
    site: Site,
    consumer: type[Any] = GuardedConsumer,
    *,
    producer: type[Producer] = GuardedProducer,
    assignor: type[PartitionAssignor] = ReturningAssignor,
    gates: Gates | None = None,
    port: int = 1,
    more_topics: tuple[str, ...] = (),
    settled: bool = True,
    commit_interval: float = 3600.0,
) -> AsyncIterator[Worker]:
    """A worker that reads ``site``; at the end it leaves without committing anything more."""
    gates = gates or Gates()
    held = type(f"Held{consumer.__name__}", (Held, consumer), {"gates": gates})
    transport = type("HeldTransport", (GuardedTransport,), {"Consumer": held, "Producer": producer})
    settings = Settings.model_validate(
        {
            "namespace": site.namespace,
            "kafka_bootstrap": site.bootstrap,
            "partitions": PARTITIONS,
            "http_port": port,
        }
    )
    app = create_app(settings, "reader", port)
    app.conf.web_enabled = False
    app.conf.broker_commit_interval = commit_interval  # the tests say when
    app.conf.PartitionAssignor = assignor
    app.transport = transport(app.conf.broker_consumer, app)
    app.producer_transport = transport(app.conf.broker_producer, app)
    reader = Worker(app, site, gates)

    @app.agent(bytes_topic(app, site.topic, *more_topics))
    async def read(stream: Any) -> None:
        await feed(app, stream, reader.handle)

    app.finalize()
    starting = asyncio.create_task(app.start())
    try:
        if settled:
            await asyncio.wait_for(asyncio.shield(starting), WITHIN)
            await reader.until_settled(1)
        yield reader
    finally:
        for gate in vars(gates).values():
            gate.open()
        app.consumer.wait_empty = _at_once
        with suppress(Exception):
            await asyncio.wait_for(app.stop(), WITHIN)
        starting.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await starting
