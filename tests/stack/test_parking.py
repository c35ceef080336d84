"""What cannot be handled is kept whole, shown by cause, and replayed or given up by a person.

Long, because a parked message is followed from its queue to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from aio_pika import Message
from aio_pika.abc import AbstractChannel
from commandbus import CODEC, broker, depth, publish, reserve, running, settings_of, take_all
from eventually import eventually_async
from link import linked
from operated import act, cleared

from fulcrum.commands.consumer import CommandConsumer
from fulcrum.commands.delivery import Delivery, headers_parked
from fulcrum.commands.parking import Filter, Parker, get_parked, list_parked
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.commands.topology import Topology
from fulcrum.errors import NotFound, Rejected
from fulcrum.saga.messages import ReserveStock
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.telemetry.metrics import messages_parked


@pytest.fixture
def settings(namespace: Mapping[str, str]) -> Settings:
    return settings_of(namespace)


@pytest_asyncio.fixture
async def channel(settings: Settings) -> AsyncIterator[AbstractChannel]:
    async with broker(settings) as found:
        yield found


@pytest_asyncio.fixture
async def db(settings: Settings) -> AsyncIterator[Database]:
    database = await Database.open(settings.postgres_dsn, size=4)
    await cleared(database)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def publisher(settings: Settings, channel: AbstractChannel) -> AsyncIterator[CommandPublisher]:
    found = await CommandPublisher.open(settings)
    yield found
    await found.close()


async def kept(db: Database, count: int = 1) -> list[dict[str, Any]]:
    """Everything that is parked, newest first, once there are ``count``."""

    async def enough() -> bool:
        return len((await list_parked(db))[0]) == count

    await eventually_async(enough, within=10, state=lambda: list_parked(db))
    rows, _ = await list_parked(db)
    return [await get_parked(db, row["id"]) for row in rows]


async def park(settings: Settings, channel: AbstractChannel, command: ReserveStock, error: Exception) -> None:
    """Put ``command`` on the parked queue, as a consumer does."""
    await publish(settings, command)
    names = Topology(settings.namespace)
    (message,) = await take_all(channel, names.queue("inventory"))
    headers = {name: str(value) for name, value in message.headers.items() if not name.startswith("x-")}
    parked = headers_parked({**headers, "fulcrum-attempt": "3"}, error, "exhausted")
    copy = Message(message.body, headers=parked, message_id=message.message_id, type="ReserveStock")
    await (await channel.get_exchange(names.parked, ensure=False)).publish(copy, "inventory")


def parker(db: Database, settings: Settings) -> Parker:
    return Parker(db, settings, "inventory", CODEC.read)


async def test_parked_command_is_kept_whole(
    settings: Settings, channel: AbstractChannel, db: Database
) -> None:
    """Body, headers, error, attempts and the decoded view are in Postgres, and the queue is empty."""
    command = reserve("tea")
    await park(settings, channel, command, KeyError("no row 17"))
    async with running(parker(db, settings)):
        (row,) = await kept(db)
    assert CODEC.decode(row["body"]) == command
    assert (row["message_id"], row["workflow_id"]) == (command.command_id, command.workflow_id)
    assert (row["service"], row["type"], row["status"]) == ("inventory", "ReserveStock", "parked")
    assert (row["reason"], row["attempts"], row["error_class"]) == ("exhausted", 3, "KeyError")
    assert row["queue"] == Topology(settings.namespace).queue("inventory")
    assert row["error"] == "'no row 17'"
    assert row["headers"]["fulcrum-correlation-id"] == "order-7"
    assert row["decoded"]["lines"] == [{"sku": "tea", "quantity": 1}]
    assert await depth(channel, Topology(settings.namespace).parked_queue("inventory")) == 0
    assert messages_parked.labels("inventory")._value.get() == 1


async def test_unreadable_bytes_are_kept(settings: Settings, channel: AbstractChannel, db: Database) -> None:
    """What nobody can decode, with ids and texts that Postgres would refuse, is kept too."""
    exchange = await channel.get_exchange(Topology(settings.namespace).parked, ensure=False)
    odd = Message(b"\x00\xff", headers={"ce_subject": "no uuid", "note": "a\x00b"}, message_id="m" * 200)
    await exchange.publish(odd, "inventory")
    async with running(parker(db, settings)):
        (row,) = await kept(db)
    assert (row["body"], row["decoded"], row["workflow_id"]) == (b"\x00\xff", None, None)
    assert (row["message_id"], row["type"], row["headers"]["note"]) == ("m" * 200, "unknown", "a\ufffdb")


async def test_parking_twice_makes_one_row(
    settings: Settings, channel: AbstractChannel, db: Database
) -> None:
    """A parked message that is delivered again, because its acknowledgement was lost, is kept once."""
    await park(settings, channel, reserve(), KeyError("x"))
    names = Topology(settings.namespace)
    (message,) = await take_all(channel, names.parked_queue("inventory"))
    exchange = await channel.get_exchange(names.parked, ensure=False)
    for _ in range(2):
        copy = Message(message.body, headers=message.headers, message_id=message.message_id)
        await exchange.publish(copy, "inventory")

    async def empty() -> bool:
        return await depth(channel, names.parked_queue("inventory")) == 0

    async with running(parker(db, settings)):
        await eventually_async(empty, within=10)
        await kept(db, 1)


async def test_what_the_broker_gave_up_is_kept_with_its_reason(
    settings: Settings, channel: AbstractChannel, db: Database
) -> None:
    """A command that was delivered too often arrives without our headers and is kept all the same."""
    command = reserve()
    await publish(settings, command)
    names = Topology(settings.namespace)
    source = await channel.get_queue(names.queue("inventory"), ensure=False)

    async def given_up() -> bool:
        if message := await source.get(fail=False):
            await message.reject(requeue=True)
        return await depth(channel, names.parked_queue("inventory")) == 1

    await eventually_async(given_up, within=20)
    async with running(parker(db, settings)):
        (row,) = await kept(db)
    assert (row["reason"], row["error_class"]) == ("delivery_limit", "BrokerDeadLetter")
    assert (row["message_id"], row["attempts"]) == (command.command_id, 1)


async def test_postgres_away_keeps_messages_on_the_queue(
    settings: Settings, channel: AbstractChannel, db: Database
) -> None:
    """While Postgres is away nothing is acknowledged; when it is back, everything is kept."""
    async with linked(settings.postgres_dsn) as (link, through):
        mine = await Database.open(through, size=2)
        await link.cut()
        for _ in range(3):
            await park(settings, channel, reserve(), KeyError("x"))
        part = parker(mine, settings)
        async with running(part):

            async def taken() -> bool:
                return await depth(channel, Topology(settings.namespace).parked_queue("inventory")) == 0

            await eventually_async(taken, within=10)  # in the parker's hands, unacknowledged
            assert (await list_parked(db))[0] == []
            await link.mend()
            await kept(db, 3)
        await mine.close()


async def test_same_cause_has_one_fingerprint(
    settings: Settings, channel: AbstractChannel, db: Database
) -> None:
    """Two commands that failed for one cause can be found together."""
    await park(settings, channel, reserve(), KeyError("no row 17"))
    await park(settings, channel, reserve(), KeyError("no row 18"))
    await park(settings, channel, reserve(), KeyError("no column 18"))
    async with running(parker(db, settings)):
        rows = await kept(db, 3)
    assert len({row["fingerprint"] for row in rows}) == 2


async def test_list_is_read_in_pages(settings: Settings, channel: AbstractChannel, db: Database) -> None:
    """Pages follow each other without gap or repeat, newest first, and can be narrowed to a status."""
    for _ in range(5):
        await park(settings, channel, reserve(), KeyError("x"))
    async with running(parker(db, settings)):
        ids = [row["id"] for row in await kept(db, 5)]
    seen, cursor = [], None
    for _ in range(3):
        rows, cursor = await list_parked(db, cursor=cursor, limit=2)
        seen += [row["id"] for row in rows]
        assert "body" not in rows[0]
    assert (seen, cursor) == (ids, None)
    await act(db, settings, "discard", ids[0])
    rows, _ = await list_parked(db, Filter(status="parked"))
    assert [row["id"] for row in rows] == ids[1:]
    assert [row["id"] for row in (await list_parked(db, Filter(status="discarded")))[0]] == ids[:1]


@pytest.mark.parametrize(
    "arguments", [{"wanted": Filter(status="lost")}, {"cursor": "x"}, {"cursor": "W10="}, {"cursor": "ü"}]
)
async def test_senseless_request_is_rejected(db: Database, arguments: dict[str, Any]) -> None:
    """A status or a cursor that does not exist is named."""
    with pytest.raises(Rejected, match=r"status 'lost'|cursor"):
        await list_parked(db, **arguments)


async def test_replayed_command_takes_effect_under_its_id(
    settings: Settings, channel: AbstractChannel, db: Database, publisher: CommandPublisher
) -> None:
    """Replaying sends the same body with the same id and counts its attempts anew."""
    command = reserve()
    await park(settings, channel, command, KeyError("x"))
    async with running(parker(db, settings)):
        (row,) = await kept(db)
    seen: list[Delivery] = []

    async def handle(batch: Any) -> None:
        seen.extend(batch)

    moved = await act(db, settings, "replay", row["id"], publisher)
    assert (moved["status"], moved["actor"], moved["note"]) == ("replayed", "ana", "the provider is back")
    async with running(CommandConsumer(settings, "inventory", CODEC.read, handle, 1)):
        await eventually_async(lambda: asyncio.sleep(0, seen), within=10)
    (delivery,) = seen
    assert (delivery.command, delivery.message_id, delivery.attempt) == (command, command.command_id, 1)
    assert delivery.headers["fulcrum-correlation-id"] == "order-7"
    assert not [name for name in delivery.headers if "error" in name or "parked" in name]


async def test_replay_that_fails_again_is_parked_again(
    settings: Settings, channel: AbstractChannel, db: Database, publisher: CommandPublisher
) -> None:
    """A command that is replayed too early is parked as a second row; the first says that it was replayed."""
    await park(settings, channel, reserve(), KeyError("x"))

    async def handle(_: object) -> None:
        raise Rejected("still wrong")

    async with running(parker(db, settings)):
        (row,) = await kept(db)
        await act(db, settings, "replay", row["id"], publisher)
        async with running(CommandConsumer(settings, "inventory", CODEC.read, handle, 1)):
            rows = await kept(db, 2)
    assert [(each["status"], each["error"]) for each in rows] == [
        ("parked", "still wrong"),
        ("replayed", "'x'"),
    ]


@pytest.mark.parametrize("parked_id", [str(UUID(int=1)), "17", ""])
async def test_unknown_message_is_not_found(db: Database, parked_id: str) -> None:
    """An id that was never given out is not found, whatever it looks like."""
    with pytest.raises(NotFound):
        await get_parked(db, parked_id)


async def test_list_is_narrowed_by_whatever_is_known(
    settings: Settings, channel: AbstractChannel, db: Database
) -> None:
    """Service, type, cause, workflow, message id and time each narrow the list; a status must exist."""
    await park(settings, channel, reserve(), KeyError("x"))
    await park(settings, channel, reserve(), ValueError("x"))
    async with running(parker(db, settings)):
        newest, oldest = await kept(db, 2)
    for wanted in (
        Filter(group=oldest["fingerprint"]),
        Filter(workflow_id=oldest["workflow_id"]),
        Filter(message_id=oldest["message_id"]),
        Filter(until=newest["parked_at"]),
    ):
        assert [row["id"] for row in (await list_parked(db, wanted))[0]] == [oldest["id"]], wanted
    since, _ = await list_parked(db, Filter(since=newest["parked_at"], type="ReserveStock"))
    assert [row["id"] for row in since] == [newest["id"]]
    assert len((await list_parked(db, Filter(service="inventory")))[0]) == 2
    assert (await list_parked(db, Filter(service="payment")))[0] == []
    with pytest.raises(Rejected, match="status 'odd'"):
        await list_parked(db, Filter(status="odd"))
