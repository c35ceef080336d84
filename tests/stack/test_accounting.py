"""Is a command that was published found again, wherever it may be, and named when it is nowhere?

Long, because a command is followed to each place in which it may be, and to none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from aio_pika import Message
from aio_pika.abc import AbstractChannel
from commandbus import broker, depth, running, take_all
from confluent_kafka import Consumer, Producer, TopicPartition
from deliveries import delivery, new_workflow, receive, reserve
from eventually import eventually_async
from operated import act, cleared
from sqlalchemy import text

from fulcrum.agents.accountant import Accountant
from fulcrum.commands import accounts, standing
from fulcrum.commands.accounts import PUBLISHED, Issued
from fulcrum.commands.consumer import CommandConsumer
from fulcrum.commands.parking import Parker
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.commands.topology import Topology
from fulcrum.doctor.findings import State
from fulcrum.doctor.live_accounts import accounts as asked_by_doctor
from fulcrum.doctor.live_postgres import Scope
from fulcrum.saga.messages import Command
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.store.relations import PARKED_MESSAGES
from fulcrum.telemetry.metrics import commands_open, commands_unaccounted
from fulcrum.wire.codec import Codec, open_codec
from fulcrum.wire.topics import Topics
from fulcrum.workers.inventory import InventoryWorker

_WITHIN = 30.0
_LOOKS = 3


class Books:
    """The queues and the accounts of one namespace, with nobody who takes commands until a test says so."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        codec: Codec,
        channel: AbstractChannel,
        publisher: CommandPublisher,
    ) -> None:
        self.settings = settings
        self.db = db
        self.codec = codec
        self.channel = channel
        self.publisher = publisher
        self.accountant = Accountant(settings)
        self.queue = Topology(settings.namespace).queue("inventory")

    async def send(self, command: Command, *, enter: bool = True) -> None:
        """Publish a command as the bridge does, and enter it as the projector does."""
        kind, workflow = type(command).__name__, getattr(command, "workflow_id", None)
        body, headers = self.codec.encode(command), delivery(command).headers
        await self.publisher.publish(command.service, body, headers, command.command_id, kind)
        if enter:
            await accounts.enter_published(self.db, command.command_id, command.service, kind, workflow)

    def worker(self) -> CommandConsumer:
        """Inventory's worker."""
        handle = InventoryWorker(self.db, self.codec, Topics(self.settings.namespace)).handle
        return CommandConsumer(self.settings, "inventory", self.codec.read, handle, batch_size=10)

    def parker(self) -> Parker:
        """Inventory's parker."""
        return Parker(self.db, self.settings, "inventory", self.codec.read)

    async def lost(self) -> int:
        """Commands of inventory that as many looks as it takes find missing."""
        for _ in range(_LOOKS):
            seen = await self.accountant.look()
        return seen["inventory"]

    async def open(self) -> int:
        """Commands of inventory that are in the accounts and neither handled nor parked."""
        return (await standing.standing(self.db, "inventory", 0.0)).open

    async def in_accounts(self) -> int:
        """Commands that are in the accounts at all."""
        return len(await self.db.all(PUBLISHED.select()))

    async def parked(self, command: Command) -> dict[str, Any]:
        """The parked message of ``command`` that was parked last and waits, as soon as it is there."""
        found = PARKED_MESSAGES.select().where(
            PARKED_MESSAGES.c.message_id == command.command_id, PARKED_MESSAGES.c.status == "parked"
        )
        row: dict[str, Any] | None = await eventually_async(lambda: self.db.one(found), within=_WITHIN)
        assert row is not None
        return row


@pytest_asyncio.fixture
async def books(settings: Settings) -> AsyncIterator[Books]:
    """Everything empty, and no grace: what is on no queue is missing at once."""
    mine = settings.model_copy(update={"accounts_grace": 1e-6})
    async with AsyncExitStack() as opened:
        channel = await opened.enter_async_context(broker(mine))
        db = await Database.open(mine.postgres_dsn, size=4)
        opened.push_async_callback(db.close)
        await db.execute(PUBLISHED.delete())
        await cleared(db)
        publisher = await CommandPublisher.open(mine)
        opened.push_async_callback(publisher.close)
        found = Books(mine, db, await open_codec(mine), channel, publisher)
        opened.push_async_callback(found.accountant.close)
        yield found


def _reserve() -> Command:
    return reserve(new_workflow(), (f"sku-{uuid4().hex[:8]}", 1))


async def test_the_relation_is_that_of_the_migration(books: Books) -> None:
    """The accounts have the columns that the code declares."""
    columns = text(
        "SELECT column_name AS name, is_nullable = 'YES' AS nullable FROM information_schema.columns "
        "WHERE table_schema = 'ops' AND table_name = 'commands_published'"
    )
    found = {row["name"]: row["nullable"] for row in await books.db.all(columns)}
    assert found == {column.name: bool(column.nullable) for column in PUBLISHED.columns}


# --- nothing is missing -----------------------------------------------------------------------------


async def test_a_healthy_system_misses_nothing(books: Books) -> None:
    """Queued, commands are open; handled, they leave the accounts; missing they are at no time."""
    for command in [_reserve() for _ in range(20)]:
        await books.send(command)
    assert (await books.lost(), await books.open()) == (0, 20)
    assert commands_open.labels("inventory")._value.get() == 20

    async def settled() -> bool:
        assert (await books.accountant.look())["inventory"] == 0
        return await books.in_accounts() == 0

    async with running(books.worker()):
        await eventually_async(settled, within=_WITHIN, state=books.in_accounts)
    assert commands_open.labels("inventory")._value.get() == 0
    assert commands_unaccounted.labels("inventory")._value.get() == 0


async def test_a_command_that_is_published_twice_counts_once(books: Books) -> None:
    """A repeat has the id of the first and is one entry, open once and handled once."""
    command = _reserve()
    for _ in range(3):
        await books.send(command)
    assert (await books.lost(), await books.open()) == (0, 1)

    async def settled() -> bool:
        await books.accountant.look()
        return await books.in_accounts() == 0

    async with running(books.worker()):
        await eventually_async(settled, within=_WITHIN)


async def test_a_command_that_is_delivered_again_counts_once(books: Books) -> None:
    """Taken, given back and delivered again, it is one command on one queue."""
    await books.send(_reserve())
    source = await books.channel.get_queue(books.queue, ensure=False)
    taken = await source.get()
    assert taken is not None
    await taken.reject(requeue=True)

    async def back() -> bool:
        return await depth(books.channel, books.queue) == 1

    await eventually_async(back, within=_WITHIN)
    assert (await books.lost(), await books.open()) == (0, 1)


async def test_what_waits_for_a_retry_is_not_missing(books: Books) -> None:
    """A command on a retry queue is on a queue."""
    command = _reserve()
    await books.send(command, enter=False)
    (message,) = await take_all(books.channel, books.queue)
    await accounts.enter_published(books.db, command.command_id, "inventory", "ReserveStock", None)
    assert await books.lost() == 1

    names = Topology(books.settings.namespace)
    # The longest delay: a hundredth of an hour in tests, during which nobody takes it.
    exchange = await books.channel.get_exchange(names.retry("1h"), ensure=False)
    await exchange.publish(Message(message.body, message_id=message.message_id), "inventory")
    assert await books.lost() == 0


# --- parked, replayed, given up ---------------------------------------------------------------------


async def test_a_parked_command_is_not_missing(books: Books) -> None:
    """Kept for a person it is accounted for, replayed it is open again, and parked again it is parked."""
    senseless = receive(f"sku-{uuid4().hex[:8]}", 0)
    await books.send(senseless)
    async with running(books.worker()), running(books.parker()):
        row = await books.parked(senseless)
        stands = await standing.standing(books.db, "inventory", 0.0)
        assert (stands.open, stands.parked, await books.lost()) == (0, 1, 0)

        await act(books.db, books.settings, "replay", row["id"], books.publisher)
        again = await books.parked(senseless)
    assert again["id"] != row["id"]
    stands = await standing.standing(books.db, "inventory", 0.0)
    assert (stands.open, stands.parked, await books.lost()) == (0, 1, 0)


async def test_a_replay_that_gets_lost_is_missing(books: Books) -> None:
    """What a person sent again is published like any other: on the queue it is open, off it it is lost."""
    senseless = receive(f"sku-{uuid4().hex[:8]}", 0)
    await books.send(senseless, enter=False)  # parked by a version that kept no accounts
    async with running(books.worker()), running(books.parker()):
        row = await books.parked(senseless)
    await act(books.db, books.settings, "replay", row["id"], books.publisher)
    assert (await books.lost(), await books.open()) == (0, 1)

    await (await books.channel.get_queue(books.queue, ensure=False)).purge()

    assert await books.lost() == 1


async def test_what_a_person_gives_up_is_settled(books: Books) -> None:
    """A discarded message leaves the accounts."""
    senseless = receive(f"sku-{uuid4().hex[:8]}", 0)
    await books.send(senseless)
    async with running(books.worker()), running(books.parker()):
        row = await books.parked(senseless)
    await act(books.db, books.settings, "discard", row["id"])

    assert await books.lost() == 0
    assert await books.in_accounts() == 0


# --- something is missing ---------------------------------------------------------------------------


async def test_a_command_that_vanished_is_named(books: Books) -> None:
    """Purged behind our back, a command is missing by number for the metric and by id for the doctor."""
    command = _reserve()
    await books.send(command)
    await (await books.channel.get_queue(books.queue, ensure=False)).purge()

    assert await books.lost() == 1
    assert commands_unaccounted.labels("inventory")._value.get() == 1
    finding = await asked_by_doctor(books.settings, Scope(grace=1e-6, sample=100))
    assert (finding.state, dict(finding.causes)) == (State.BROKEN, {"inventory: missing": 1})
    assert [each.subject for each in finding.examples] == [command.command_id]

    await books.send(command)  # as a person who was told the id may do
    assert await books.lost() == 0
    finding = await asked_by_doctor(books.settings, Scope(grace=1e-6, sample=100))
    assert (finding.state, finding.looked_at) == (State.HOLDS, 1)


async def test_a_deleted_queue_is_an_empty_one(books: Books) -> None:
    """Whoever deletes a queue deletes what is on it, and the accounts say how much that was."""
    for command in [_reserve() for _ in range(3)]:
        await books.send(command)
    await books.channel.queue_delete(books.queue)

    assert await books.lost() == 3


async def test_some_of_many_are_missing(books: Books) -> None:
    """Behind a backlog the number is known as soon as the queue holds fewer than are open."""
    commands = [_reserve() for _ in range(5)]
    for command in commands:
        await books.send(command)
    source = await books.channel.get_queue(books.queue, ensure=False)
    for _ in range(2):
        await source.get(no_ack=True)

    assert await books.lost() == 2
    finding = await asked_by_doctor(books.settings, Scope(grace=1e-6, sample=100))
    assert dict(finding.causes) == {"inventory: missing": 2}
    assert "one of 5 with 3 messages" in finding.examples[0].detail


async def test_what_is_young_is_in_flight(books: Books) -> None:
    """Within the grace a command may be in a worker's hands, where nobody can count it."""
    await books.send(_reserve())
    await (await books.channel.get_queue(books.queue, ensure=False)).purge()
    patient = Accountant(books.settings.model_copy(update={"accounts_grace": 3600.0}))
    try:
        assert [(await patient.look())["inventory"] for _ in range(_LOOKS)] == [0] * _LOOKS
    finally:
        await patient.close()
    finding = await asked_by_doctor(books.settings, Scope(grace=3600, sample=100))
    assert finding.state is State.HOLDS


# --- decided, and not yet published -----------------------------------------------------------------


@pytest.fixture
def journal(settings: Settings) -> str:
    """The decisions topic, with a record in partition 0 for the bridge to pass."""
    topic = Topics(settings.namespace).stream("decisions")
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
    producer.produce(topic, b"any", partition=0)
    assert producer.flush(20) == 0
    return topic


def _bridge_commits(settings: Settings, topic: str, offset: int) -> None:
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka_bootstrap, "group.id": f"{settings.namespace}-orchestrator"}
    )
    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


async def test_a_command_is_expected_once_the_bridge_has_passed_it(books: Books, journal: str) -> None:
    """While the bridge waits for RabbitMQ nothing is missing, for the metric nor for the doctor."""
    issued = Issued(str(uuid4()), "inventory", "ReserveStock", str(uuid4()), datetime.now(UTC), 0, 0)
    async with books.db.transaction() as tx:
        accounts.enter(tx, [issued, issued])
    assert (await books.lost(), await books.open()) == (0, 1)
    assert (await asked_by_doctor(books.settings, Scope(grace=1e-6, sample=9))).state is State.HOLDS

    _bridge_commits(books.settings, journal, 1)

    finding = await asked_by_doctor(books.settings, Scope(grace=1e-6, sample=9))
    assert [each.subject for each in finding.examples] == [issued.command_id]
    await books.accountant.look()  # notes that it is published, from when its grace runs
    assert await books.lost() == 1
