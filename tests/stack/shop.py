"""A real inventory behind a real queue, and whether every command took effect there, each once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Sequence
from urllib.parse import quote
from uuid import uuid4

import aiohttp
from aio_pika.abc import AbstractChannel
from commandbus import CODEC, depth, headers_of
from deliveries import delivery, new_workflow, receive, reserve
from eventually import eventually_async
from sqlalchemy import func, select

from fulcrum.commands.consumer import CommandConsumer
from fulcrum.commands.delivery import Delivery
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.commands.retry import LEVELS
from fulcrum.commands.topology import Topology
from fulcrum.errors import Unavailable
from fulcrum.localstack import Stack
from fulcrum.saga.messages import ReserveStock
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.wire.topics import Topics
from fulcrum.workers.inventory import InventoryWorker
from fulcrum.workers.inventory_relations import INVENTORY, LEDGER, STOCK

_UNITS = 1_000


class Shop:
    """One SKU and the commands that reserve units of it. ``batches`` are those that were tried."""

    def __init__(self, settings: Settings, db: Database, channel: AbstractChannel) -> None:
        self.settings = settings
        self.db = db
        self.names = Topology(settings.namespace)
        self.sku = f"sku-{uuid4().hex[:8]}"
        self.commands: list[ReserveStock] = []
        self.batches: list[list[Delivery]] = []
        #: Raised, one after the other, in place of handling a batch.
        self.mishaps: list[Exception] = []
        self._channel = channel
        self._worker = InventoryWorker(db, CODEC, Topics(settings.namespace))

    async def open(self) -> None:
        """Bring units into stock."""
        await self._worker.handle([delivery(receive(self.sku, _UNITS))])

    async def handle(self, batch: Sequence[Delivery]) -> None:
        """What the consumer calls."""
        self.batches.append(list(batch))
        if self.mishaps:
            raise self.mishaps.pop(0)
        await self._worker.handle(batch)

    def consumer(self, batch_size: int = 8, concurrency: int = 1) -> CommandConsumer:
        """A consumer of the inventory queue."""
        return CommandConsumer(
            self.settings, "inventory", CODEC.read, self.handle, batch_size, concurrency, db=self.db
        )

    async def order(self, count: int) -> None:
        """Publish so many commands, each until it is confirmed, as the bridge does."""
        publisher = CommandPublisher(self.settings)
        fresh = [reserve(new_workflow(), (self.sku, 1)) for _ in range(count)]
        self.commands += fresh

        async def publish(command: ReserveStock) -> None:
            body, headers = CODEC.encode(command), headers_of(command)

            async def confirmed() -> bool:
                await publisher.publish("inventory", body, headers, command.command_id, "ReserveStock")
                return True

            await eventually_async(confirmed, within=20)

        await asyncio.gather(*(publish(command) for command in fresh))
        await publisher.close()

    async def answered(self) -> int:
        """How many of the commands have an outcome."""
        inbox = INVENTORY.inbox
        ids = [command.command_id for command in self.commands]
        row = await self.db.one(
            select(func.count().label("n")).where(inbox.c.message_id.in_(ids), inbox.c.outcome.is_not(None))
        )
        return int(row["n"]) if row else 0

    async def settled(self, within: float = 30) -> None:
        """Wait until every command took effect; then nothing is left anywhere, and nothing happened twice."""

        async def all_answered() -> bool:
            return await self.answered() == len(self.commands)

        async def state() -> str:
            return f"{await self.answered()} of {len(self.commands)}, queues {await self.depths()}"

        await eventually_async(all_answered, within=within, state=state)
        wanted = len(self.commands)
        stock = await self.db.one(select(STOCK).where(STOCK.c.sku == self.sku))
        assert stock is not None
        assert (stock["reserved"], stock["available"]) == (wanted, _UNITS - wanted)
        entries = await self.db.all(select(LEDGER).where(LEDGER.c.sku == self.sku))
        assert sum(entry["reserved"] for entry in entries) == wanted
        assert len({entry["workflow_id"] for entry in entries if entry["workflow_id"]}) == wanted

        async def empty() -> bool:
            return not any((await self.depths()).values())

        await eventually_async(empty, within=10, state=self.depths)

    async def depths(self) -> dict[str, int]:
        """What is ready on the queues that can hold these commands."""
        names = [self.names.queue("inventory"), self.names.parked_queue("inventory")]
        names += [self.names.retry(level.name) for level in LEVELS]
        return {name: await depth(self._channel, name) for name in names}


async def close_connections(management: str, needle: str) -> int:
    """Have the broker close every connection whose own name contains ``needle``; how many it knew."""
    headers = {"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="}  # guest:guest, of a server on loopback
    async with aiohttp.ClientSession(headers=headers) as http:
        async with http.get(f"{management}/api/connections") as answer:
            known = [
                each["name"]
                for each in json.loads(await answer.text())
                if needle in each.get("client_properties", {}).get("connection_name", "")
            ]
        for name in known:
            async with http.delete(f"{management}/api/connections/{quote(name, safe='')}") as answer:
                assert answer.status in {204, 404}
    return len(known)


async def rabbitmqctl(stack: Stack, *arguments: str) -> str:
    """Run the broker's own tool on the broker of ``stack``."""
    folder = stack.home.data("rabbitmq")
    env = {
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "ERL_EPMD_PORT": str(stack.home.ports()["epmd"]),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
    }
    command = ["/usr/lib/rabbitmq/bin/rabbitmqctl", "--node", "fulcrum@localhost", *arguments]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=env, cwd="/", check=False, capture_output=True, text=True, timeout=30,
            **stack.home.account.run_as,
        )  # fmt: skip

    done = await asyncio.to_thread(run)
    if done.returncode:
        raise Unavailable(f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout
