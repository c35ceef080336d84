"""The payment and inventory services as they run: commands from RabbitMQ, answers on Kafka.

Long, because both services are run, stopped and robbed of their servers in the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from commandbus import broker
from confluent_kafka import Consumer, TopicPartition
from deliveries import TRACEPARENT, authorize, delivery, new_workflow, receive, reserve, void
from eventually import eventually_async
from intake import free_port
from link import linked
from sqlalchemy import func, select

from fulcrum.commands.publisher import CommandPublisher
from fulcrum.errors import Misconfigured
from fulcrum.saga.messages import (
    Answer,
    Command,
    PaymentAuthorized,
    PaymentVoided,
    StockRejected,
    StockReserved,
)
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.store.relations import PARKED_MESSAGES
from fulcrum.wire.codec import Codec, open_codec
from fulcrum.wire.headers import Envelope
from fulcrum.wire.topics import Topics
from fulcrum.workers.inventory_relations import INVENTORY
from fulcrum.workers.payment_relations import PAYMENTS
from fulcrum.workers.psp_simulator import PspSimulator
from fulcrum.workers.service import serve_inventory, serve_payment, serve_psp_simulator

Serve = Callable[[Settings, asyncio.Event], Awaitable[None]]

_WITHIN = 30.0


class Role:
    """A role that runs in this process."""

    def __init__(self, serve: Serve, settings: Settings) -> None:
        self.port = free_port()
        self._stop = asyncio.Event()
        mine = settings.model_copy(update={"http_port": self.port})
        self.task = asyncio.ensure_future(serve(mine, self._stop))

    async def page(self, path: str) -> tuple[int, str]:
        """What its HTTP server says."""
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{self.port}{path}") as answer,
        ):
            return answer.status, await answer.text()

    async def ready(self) -> None:
        """Wait until it says that it is."""

        async def says_so() -> bool:
            return (await self.page("/readyz"))[0] == 200

        await eventually_async(says_so, within=_WITHIN, state=lambda: self.task)

    async def stop(self) -> None:
        """Tell it to stop, and wait until it has."""
        self._stop.set()
        async with asyncio.timeout(15):
            await self.task


@asynccontextmanager
async def running(serve: Serve, settings: Settings) -> AsyncIterator[Role]:
    """A role that has stopped cleanly afterwards."""
    role = Role(serve, settings)
    try:
        yield role
    finally:
        await role.stop()


class Wires:
    """What stands around a service: its queue, its topic, and what was parked."""

    def __init__(self, settings: Settings, codec: Codec, publisher: CommandPublisher, db: Database) -> None:
        self.settings = settings
        self.db = db
        self._codec = codec
        self._publisher = publisher
        self._topics = Topics(settings.namespace)

    async def send(self, *commands: Command) -> None:
        """Publish ``commands`` in this order."""
        for command in commands:
            headers = delivery(command).headers
            kind = type(command).__name__
            await self._publisher.publish(
                command.service, self._codec.encode(command), headers, command.command_id, kind
            )

    async def send_bytes(self, service: str, body: bytes) -> str:
        """Publish bytes that are no command; the message id."""
        message_id = str(uuid4())
        await self._publisher.publish(service, body, {"ce_id": message_id}, message_id, "ReserveStock")
        return message_id

    async def told(self, stream: str, workflow: str, count: int) -> list[tuple[Answer, Envelope]]:
        """The first ``count`` events of ``workflow`` on Kafka, with their headers."""
        return await asyncio.to_thread(self._told, self._topics.stream(stream), workflow.encode(), count)

    def _told(self, topic: str, key: bytes, count: int) -> list[tuple[Answer, Envelope]]:
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.kafka_bootstrap,
                "group.id": "onlooker",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "log_level": 2,
            }
        )
        consumer.assign([TopicPartition(topic, n, 0) for n in range(self.settings.partitions)])
        found: list[tuple[Answer, Envelope]] = []
        try:
            while len(found) < count:
                message = consumer.poll(_WITHIN)
                assert message is not None, f"only {found} of {count} on {topic}"
                assert message.error() is None, message.error()
                if message.key() == key:
                    event = self._codec.decode(message.value())
                    assert isinstance(event, Answer)
                    found.append((event, Envelope.from_kafka(message.headers())))
        finally:
            consumer.close()
        return found

    async def parked(self, message_id: str) -> dict[str, Any]:
        """The parked message, as soon as it is there."""
        statement = select(PARKED_MESSAGES).where(PARKED_MESSAGES.c.message_id == message_id)
        row: dict[str, Any] | None = await eventually_async(
            lambda: self.db.one(statement), within=_WITHIN, state=lambda: message_id
        )
        assert row is not None
        return row


@pytest.fixture
async def wires(settings: Settings) -> AsyncIterator[Wires]:
    """Queues and topics that nobody serves yet."""
    async with broker(settings):
        publisher = await CommandPublisher.open(settings)
        db = await Database.open(settings.postgres_dsn)
        yield Wires(settings, await open_codec(settings), publisher, db)
        await db.close()
        await publisher.close()


@pytest.fixture
async def provider(settings: Settings) -> AsyncIterator[Settings]:
    """Settings with the address of a payment provider that is up."""
    simulator = PspSimulator(settings)
    await simulator.start(port=0)
    yield settings.model_copy(update={"psp_url": f"http://127.0.0.1:{simulator.port}"})
    await simulator.stop()


# --- the way through ------------------------------------------------------------------------------


async def test_payment_commands_become_events(wires: Wires, provider: Settings) -> None:
    """In order, keyed by the workflow, in the trace of the command that caused them."""
    workflow = new_workflow()
    hold, undo = authorize(workflow), void(workflow)
    async with running(serve_payment, provider) as role:
        await role.ready()
        await wires.send(hold)
        [(held, envelope)] = await wires.told("payments", workflow, 1)
        await wires.send(undo)
        [_, (voided, _)] = await wires.told("payments", workflow, 2)

    assert isinstance(held, PaymentAuthorized)
    assert isinstance(voided, PaymentVoided)
    assert (held.sequence, voided.sequence) == (1, 2)
    assert (envelope.message_id, envelope.type) == (held.event_id, "PaymentAuthorized")
    assert (envelope.causation_id, envelope.workflow_id) == (hold.command_id, workflow)
    assert envelope.correlation_id == Envelope.from_amqp(delivery(hold).headers).correlation_id
    assert (envelope.traceparent or "").split("-")[1] == TRACEPARENT.split("-")[1]


async def test_inventory_commands_become_events(wires: Wires) -> None:
    """A whole queue of them, in batches: as many are held as there is stock."""
    sku = f"sku-{uuid4().hex[:8]}"
    flows = [new_workflow() for _ in range(60)]
    await wires.send(receive(sku, 40), *(reserve(flow, (sku, 1)) for flow in flows))
    async with running(serve_inventory, wires.settings):
        told = [(await wires.told("inventory", flow, 1))[0][0] for flow in (flows[0], flows[39], flows[59])]

    assert [type(event) for event in told] == [StockReserved, StockReserved, StockRejected]


async def test_what_is_no_command_is_parked_and_stops_nothing(wires: Wires) -> None:
    """Bytes that nobody can read, and a command that makes no sense; the one behind them is carried out."""
    sku, workflow = f"sku-{uuid4().hex[:8]}", new_workflow()
    senseless = receive(sku, 0)
    garbage = await wires.send_bytes("inventory", b"\x07 no frame")
    await wires.send(senseless, reserve(workflow, (sku, 1)))
    async with running(serve_inventory, wires.settings):
        [(event, _)] = await wires.told("inventory", workflow, 1)
        unreadable, rejected = await wires.parked(garbage), await wires.parked(senseless.command_id)

    assert isinstance(event, StockRejected)
    assert (unreadable["reason"], bytes(unreadable["body"])) == ("corrupt", b"\x07 no frame")
    assert (rejected["reason"], rejected["error_class"]) == ("rejected", "Rejected")
    assert "quantity 0" in rejected["error"]


async def test_a_provider_that_comes_back_is_asked_again(wires: Wires) -> None:
    """Down when the command came: it waits in a retry queue, and is carried out once."""
    command, port = authorize(new_workflow()), free_port()
    away = wires.settings.model_copy(update={"psp_url": f"http://127.0.0.1:{port}"})
    simulator = PspSimulator(away)
    tried = select(PAYMENTS.inbox).where(PAYMENTS.inbox.c.message_id == command.command_id)
    async with running(serve_payment, away) as role:
        await role.ready()
        await wires.send(command)
        await eventually_async(lambda: wires.db.one(tried), within=_WITHIN)
        await simulator.start(port=port)
        try:
            [(event, _)] = await wires.told("payments", command.workflow_id, 1)
            effects = simulator._book.since(0, command.workflow_id)
        finally:
            await simulator.stop()

    assert isinstance(event, PaymentAuthorized)
    assert [effect.kind for effect in effects] == ["authorize"]


# --- start and stop -------------------------------------------------------------------------------


async def test_a_stop_sends_the_last_answers_first(wires: Wires) -> None:
    """What was taken is answered, what was answered has left for Kafka, the rest stays in the queue."""
    sku = f"sku-{uuid4().hex[:8]}"
    await wires.send(*(reserve(new_workflow(), (sku, 1)) for _ in range(200)))
    inbox, outbox = (select(func.count()).select_from(table) for table in (INVENTORY.inbox, INVENTORY.outbox))
    before = await wires.db.one(inbox)
    role = Role(serve_inventory, wires.settings)

    async def begun() -> bool:
        return await wires.db.one(inbox) != before

    await eventually_async(begun, within=_WITHIN, state=lambda: role.task)
    await role.stop()

    assert await wires.db.one(outbox) == {"count_1": 0}


@pytest.mark.parametrize("serve", [serve_payment, serve_inventory])
async def test_a_start_waits_for_postgres(wires: Wires, serve: Serve) -> None:
    """It lives, it is not ready, it says so; and it is ready once Postgres is there."""
    async with linked(wires.settings.postgres_dsn) as (link, dsn):
        await link.cut()
        async with running(serve, wires.settings.model_copy(update={"postgres_dsn": dsn})) as role:
            lives = await eventually_async(lambda: role.page("/healthz"), within=_WITHIN)
            waits = await role.page("/readyz")
            await link.mend()
            await role.ready()

    assert lives[0] == 200
    assert waits[0] == 503
    assert '"started": false' in waits[1]


async def test_a_stop_while_waiting_for_postgres_is_obeyed(wires: Wires) -> None:
    """Whoever starts the wrong thing must be able to end it."""
    nobody = f"postgresql://fulcrum@127.0.0.1:{free_port()}/fulcrum"
    role = Role(serve_payment, wires.settings.model_copy(update={"postgres_dsn": nobody}))
    await eventually_async(lambda: role.page("/healthz"), within=_WITHIN)

    await role.stop()

    assert role.task.done()


async def test_a_database_without_the_schema_stops_the_start(wires: Wires, empty_database: str) -> None:
    """The remedy is named."""
    role = Role(serve_payment, wires.settings.model_copy(update={"postgres_dsn": empty_database}))

    with pytest.raises(Misconfigured, match="fulcrum db migrate"):
        await asyncio.wait_for(role.task, _WITHIN)


async def test_a_registry_without_the_schemas_stops_the_start(wires: Wires) -> None:
    """Only what the service reads and writes is asked for, and the missing subjects are named."""
    strange = wires.settings.model_copy(update={"namespace": f"{wires.settings.namespace}x"})
    role = Role(serve_inventory, strange)

    with pytest.raises(Misconfigured, match="fulcrum schema register") as caught:
        await asyncio.wait_for(role.task, _WITHIN)

    assert "ReserveStock" in str(caught.value)
    assert "AuthorizePayment" not in str(caught.value)


async def test_an_outage_is_outlived(wires: Wires, provider: Settings) -> None:
    """Postgres and RabbitMQ, each lost and found again under the running service: it goes on."""
    async with (
        linked(provider.postgres_dsn) as (postgres, dsn),
        linked(provider.rabbitmq_url) as (rabbitmq, url),
    ):
        shaky = provider.model_copy(update={"postgres_dsn": dsn, "rabbitmq_url": url})
        async with running(serve_payment, shaky) as role:
            await role.ready()
            for link in (postgres, rabbitmq):
                workflow = new_workflow()
                await link.cut()
                await wires.send(authorize(workflow))
                await link.mend()
                [(event, _)] = await wires.told("payments", workflow, 1)
                assert isinstance(event, PaymentAuthorized)


async def test_the_simulator_serves_until_it_is_stopped(wires: Wires) -> None:
    """As a role: ready, and gone at the stop."""
    async with running(serve_psp_simulator, wires.settings) as role:
        await role.ready()

    with pytest.raises(aiohttp.ClientConnectorError):
        await role.page("/healthz")
