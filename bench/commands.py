"""How does a benchmark give a service its commands, without a workflow, and see when each was handled?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import psycopg2

from bench.alone import Alone
from fulcrum.commands.balance import Depths
from fulcrum.commands.depth import depths
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.errors import Unavailable
from fulcrum.localstack.supervisor import RoleProcess
from fulcrum.saga import identity
from fulcrum.saga.messages import AuthorizePayment, Command, Line, ReceiveStock, ReserveStock
from fulcrum.settings import Settings
from fulcrum.store.relations import SCHEMA_OF
from fulcrum.wire.codec import Codec
from fulcrum.wire.headers import Envelope

#: Publishes that wait for their confirm at one time. They leave in order, on one channel.
IN_FLIGHT = 64
_SKUS = 100
_UNITS = 10_000_000
_LOOK_SECONDS = 0.25
#: No text with this in it can be stored: handling fails, on data, however often it is tried.
_NUL = "\x00"


@dataclass(frozen=True, slots=True)
class Letter:
    """What is put on a service's queue: a command, or bytes that nobody can read."""

    message_id: str
    service: str
    type: str
    body: bytes
    headers: dict[str, str]


class Writer:
    """Makes the commands of ``service``, good ones and bad ones."""

    def __init__(self, codec: Codec, service: str) -> None:
        self._codec = codec
        self._service = service
        self._run = uuid4().hex[:8]
        self._count = 0
        self._make: Callable[[str], Command] = {"payment": _authorize, "inventory": self._reserve}[service]

    def good(self, count: int) -> list[Letter]:
        """``count`` commands that are carried out, each of a workflow of its own."""
        return [self._letter(self._make("")) for _ in range(count)]

    def failing(self) -> Letter:
        """A command whose handling fails each time it is tried, until it is parked."""
        return self._letter(self._make(_NUL))

    def unreadable(self) -> Letter:
        """Bytes that no reader can decode."""
        message_id = str(uuid4())
        return Letter(message_id, self._service, "unknown", b"\x07 no frame", {"ce_id": message_id})

    def stock(self) -> list[Letter]:
        """The receipts by which the good commands find what they ask for; none for payment."""
        if self._service != "inventory":
            return []
        now = datetime.now(UTC)
        return [
            self._letter(
                ReceiveStock(
                    command_id=identity.receipt_id(sku, self._run),
                    sku=sku,
                    quantity=_UNITS,
                    reference="bench",
                    issued_at=now,
                )
            )
            for sku in map(self._sku, range(_SKUS))
        ]

    def _sku(self, number: int) -> str:
        return f"bench-{self._run}-{number % _SKUS}"

    def _reserve(self, spoiled: str) -> ReserveStock:
        self._count += 1
        workflow = str(uuid4())
        return ReserveStock(
            command_id=identity.command_id(workflow, "reserve_stock", "ReserveStock", 1),
            workflow_id=workflow,
            step="reserve_stock",
            attempt=1,
            issued_at=datetime.now(UTC),
            lines=(Line(self._sku(self._count) + spoiled, 1),),
        )

    def _letter(self, command: Command) -> Letter:
        kind = type(command).__name__
        envelope = Envelope(
            message_id=command.command_id,
            type=kind,
            source="bench",
            workflow_id=getattr(command, "workflow_id", None),
            time=datetime.now(UTC),
            correlation_id="bench",
            causation_id=None,
            traceparent=None,
        )
        return Letter(
            command.command_id, self._service, kind, self._codec.encode(command), envelope.to_amqp()
        )


def _authorize(spoiled: str) -> AuthorizePayment:
    workflow = str(uuid4())
    return AuthorizePayment(
        command_id=identity.command_id(workflow, "authorize_payment", "AuthorizePayment", 1),
        workflow_id=workflow,
        step="authorize_payment",
        attempt=1,
        issued_at=datetime.now(UTC),
        tenant="bench",
        amount_minor=1250,
        currency="EUR" + spoiled,
        payment_method="pay_ok",
    )


async def publish(publisher: CommandPublisher, letters: Iterable[Letter]) -> None:
    """Put ``letters`` on their queues, in this order; returns when RabbitMQ has confirmed all."""
    free = asyncio.Semaphore(IN_FLIGHT)

    async def one(letter: Letter) -> None:
        try:
            await send(publisher, letter)
        finally:
            free.release()

    async with asyncio.TaskGroup() as group:
        for letter in letters:
            await free.acquire()
            group.create_task(one(letter))


def start_service(own: Alone, service: str) -> RoleProcess:
    """Start the role of ``service``, and before it what it needs; it blocks until that is ready."""
    env: dict[str, str] = {}
    if service == "payment":
        running = own.processes()
        provider = own.role("psp-simulator") if "psp-simulator" in running else own.start("psp-simulator")
        env["FULCRUM_PSP_URL"] = provider.url
    return own.start(service, env)


async def send(publisher: CommandPublisher, letter: Letter) -> None:
    """Put one letter on its queue."""
    await publisher.publish(letter.service, letter.body, letter.headers, letter.message_id, letter.type)


def handled(dsn: str, service: str) -> dict[str, float]:
    """When each command of ``service`` that has its outcome was taken, in seconds of the calendar's clock."""
    return _ask(
        dsn,
        f"SELECT message_id::text, extract(epoch FROM received_at)::float8 FROM {SCHEMA_OF[service]}.inbox"
        " WHERE consumer = %s AND outcome IS NOT NULL",
        service,
    )


def parked(dsn: str, service: str) -> dict[str, float]:
    """When each message of ``service`` was parked, by its id."""
    return _ask(
        dsn,
        "SELECT message_id, extract(epoch FROM parked_at)::float8 FROM ops.parked_messages"
        " WHERE service = %s",
        service,
    )


def count_handled(dsn: str, service: str) -> int:
    """How many commands of ``service`` have their outcome."""
    inbox = f"{SCHEMA_OF[service]}.inbox"
    query = f"SELECT 'n', count(*) FROM {inbox} WHERE consumer = %s AND outcome IS NOT NULL"
    return int(_ask(dsn, query, service)["n"])


def _ask(dsn: str, query: str, service: str) -> dict[str, float]:
    connection = psycopg2.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(query, (service,))
            return dict(cursor.fetchall())
    finally:
        connection.close()


async def until(
    seen: Callable[[], Awaitable[bool]], within: float, what: str, every: float = _LOOK_SECONDS
) -> None:
    """Wait until ``seen``, asked ``every`` so many seconds; Unavailable: ``what`` did not come in time."""
    deadline = time.monotonic() + within
    while not await seen():
        if time.monotonic() > deadline:
            raise Unavailable(f"{what}: not within {within:g} s; look into the logs of the roles")
        await asyncio.sleep(every)


async def until_settled(settings: Settings, service: str, letters: Sequence[Letter], within: float) -> None:
    """Wait until each of ``letters`` was handled or parked. Unavailable when that takes too long."""
    wanted = {letter.message_id for letter in letters}

    async def settled() -> bool:
        # The tables are read once, when nothing waits any more: the drain is what is being measured.
        waiting = Depths.of(await depths(settings))
        if waiting.retry or any(waiting.own.values()):
            return False
        return await asyncio.to_thread(all_there)

    def all_there() -> bool:
        dsn = settings.postgres_dsn
        return wanted <= handled(dsn, service).keys() | parked(dsn, service).keys()

    await until(settled, within, f"{len(wanted)} commands of {service} handled or parked")
