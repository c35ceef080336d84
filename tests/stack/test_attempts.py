"""Every failed attempt of a command is kept, whatever broker and database go through meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from aio_pika import Message
from aio_pika.abc import AbstractChannel
from commandbus import CODEC, broker, publish, reserve, running, settings_of
from eventually import eventually_async
from link import linked
from operated import act, cleared
from sqlalchemy import select

from fulcrum.commands.attempts import AttemptLog, attempt_row
from fulcrum.commands.consumer import CommandConsumer
from fulcrum.commands.delivery import Delivery
from fulcrum.commands.parking import Parker, list_parked
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.commands.retry import Kind
from fulcrum.commands.topology import Topology
from fulcrum.errors import Unavailable
from fulcrum.readmodel.queries import find_attempts
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.store.relations import ATTEMPTS
from fulcrum.telemetry.metrics import attempts_dropped


class Failing:
    """Fails as often as told, by the SKU of a command's first line; then succeeds."""

    def __init__(self, **failures: list[Exception]) -> None:
        self.failures = failures
        self.done: list[str] = []

    async def handle(self, batch: Sequence[Delivery]) -> None:
        for delivery in batch:
            if left := self.failures.get(getattr(delivery.command, "lines")[0].sku):  # noqa: B009
                raise left.pop(0)
        self.done += [delivery.message_id for delivery in batch]


@pytest.fixture
def settings(namespace: Mapping[str, str]) -> Settings:
    return settings_of(namespace)


@pytest_asyncio.fixture
async def channel(settings: Settings) -> AsyncIterator[AbstractChannel]:
    async with broker(settings) as found:
        yield found


@pytest_asyncio.fixture
async def db(settings: Settings) -> AsyncIterator[Database]:
    opened = await Database.open(settings.postgres_dsn, size=4)
    await opened.execute(ATTEMPTS.delete())
    await cleared(opened)
    yield opened
    await opened.close()


def consumer_of(settings: Settings, db: Database, worker: Failing) -> CommandConsumer:
    return CommandConsumer(settings, "inventory", CODEC.read, worker.handle, 8, db=db)


async def kept(db: Database, count: int) -> list[dict[str, Any]]:
    """The attempts in the order in which they were made, once there are ``count``."""

    async def found() -> list[dict[str, Any]]:
        return await db.all(select(ATTEMPTS).order_by(ATTEMPTS.c.started_at))

    async def enough() -> bool:
        return len(await found()) >= count

    await eventually_async(enough, within=15, state=found)
    rows = await found()
    assert len(rows) == count
    return rows


async def test_every_attempt_is_kept(settings: Settings, channel: AbstractChannel, db: Database) -> None:
    """Failures, and the success after them, tell number, kind, error, worker and times, also the next one."""
    worker = Failing(flaky=[Unavailable("away"), KeyError("row")])
    command = reserve("flaky")
    began = datetime.now(UTC)
    await publish(settings, command)
    async with running(consumer_of(settings, db, worker)):
        rows = await kept(db, 3)
    assert [(row["round"], row["attempt"]) for row in rows] == [(1, 1), (1, 2), (1, 3)]
    assert [row["outcome"] for row in rows] == ["retried", "retried", "succeeded"]
    assert [(row["kind"], row["error_class"]) for row in rows] == [
        ("transient", "Unavailable"),
        ("bug", "KeyError"),
        (None, None),
    ]
    for row in rows:
        assert (row["command_id"], row["workflow_id"]) == (command.command_id, command.workflow_id)
        assert (row["type"], row["step"], row["worker"]) == ("ReserveStock", "ReserveStock", "inventory-0")
        assert began <= row["started_at"] <= datetime.now(UTC)
    for failed, following in pairwise(rows):
        assert failed["started_at"] < failed["next_due"] < following["started_at"]
    assert await find_attempts(db, command.workflow_id) != []


async def test_first_success_leaves_nothing(
    settings: Settings, channel: AbstractChannel, db: Database
) -> None:
    """A command that succeeds at once costs no row; one that fails beside it has its own."""
    worker = Failing(flaky=[KeyError("row")] * 99)
    failing = reserve("flaky")
    await publish(settings, reserve(), failing, reserve())
    async with running(consumer_of(settings, db, worker)):
        rows = await kept(db, 3)
    assert {row["command_id"] for row in rows} == {failing.command_id}
    assert [row["outcome"] for row in rows] == ["retried", "retried", "parked"]
    assert len(worker.done) == 2


async def test_replay_is_another_round(settings: Settings, channel: AbstractChannel, db: Database) -> None:
    """A command that was parked and is replayed counts its attempts anew, in round 2, beside the first."""
    worker = Failing(down=[Unavailable("away")] * 4)
    command = reserve("down")
    publisher = await CommandPublisher.open(settings)
    await publish(settings, command)
    async with running(consumer_of(settings, db, worker)), running(Parker(db, settings, "inventory")):
        first = await kept(db, 3)

        async def parked() -> list[dict[str, Any]]:
            return (await list_parked(db))[0]

        (row,) = await eventually_async(parked, within=10)
        await act(db, settings, "replay", row["id"], publisher)
        rows = await kept(db, 5)
    await publisher.close()
    assert [row["outcome"] for row in first] == ["retried", "retried", "parked"]
    assert (first[-1]["next_due"], first[-1]["kind"]) == (None, "transient")
    assert [(row["round"], row["attempt"], row["outcome"]) for row in rows[3:]] == [
        (2, 1, "retried"),
        (2, 2, "succeeded"),
    ]
    assert worker.done == [command.command_id]


async def test_unreadable_message_has_its_attempt(
    settings: Settings, channel: AbstractChannel, db: Database
) -> None:
    """Bytes that nobody can read, under ids that Postgres would refuse, are kept as poison."""
    exchange = await channel.get_exchange(Topology(settings.namespace).commands, ensure=False)
    await exchange.publish(Message(b"\xff", message_id="odd", headers={"ce_subject": "no uuid"}), "inventory")
    async with running(consumer_of(settings, db, Failing())):
        (row,) = await kept(db, 1)
    assert (row["kind"], row["outcome"], row["workflow_id"]) == ("poison", "parked", None)
    assert (row["command_id"], row["type"], row["attempt"]) == ("odd", "unknown", 1)


def row_of(command_id: str, attempt: int = 1, **changes: Any) -> dict[str, Any]:
    """An attempt that failed a moment ago."""
    told = {
        "command_id": command_id,
        "workflow_id": str(uuid4()),
        "service": "inventory",
        "type": "ReserveStock",
        "step": None,
        "worker": "inventory-0",
        "outcome": "retried",
        "started_at": datetime.now(UTC) - timedelta(milliseconds=5),
        "error": Unavailable("a\x00\ud800b"),
        "kind": Kind.TRANSIENT,
        "due_in": 1.0,
    }
    return attempt_row({"fulcrum-attempt": str(attempt)}, **{**told, **changes})


async def test_keeping_twice_is_one_row(settings: Settings, db: Database) -> None:
    """An attempt that is told again is there once, with as much of its error as Postgres can store."""
    log = AttemptLog(db, "inventory")
    row = row_of("c")
    await log.keep([row])
    await log.keep([row, row])
    (found,) = await kept(db, 1)
    assert found["error"] == "a\ufffd?b"
    assert found["duration_ms"] >= 5
    await log.close()


async def test_outage_delays_the_rows_and_not_the_retry(settings: Settings, db: Database) -> None:
    """While Postgres is away keeping an attempt takes a second at most; it is written once it is back."""
    loop = asyncio.get_running_loop()
    async with linked(settings.postgres_dsn) as (link, through):
        shaky = await Database.open(through, size=1, statement_timeout=1.0)
        log = AttemptLog(shaky, "inventory")
        await link.cut()
        for n in range(5):
            began = loop.time()
            await log.keep([row_of(f"c{n}")])
            assert loop.time() - began < 2.0
        await link.mend()
        rows = await kept(db, 5)
        assert sorted(row["command_id"] for row in rows) == [f"c{n}" for n in range(5)]
        await log.close()
        await shaky.close()


async def test_refused_rows_stop_nobody(settings: Settings, db: Database) -> None:
    """A row that Postgres will never take is dropped and counted, and those after it are written."""
    before = attempts_dropped.labels("inventory")._value.get()
    log = AttemptLog(db, "inventory")
    await log.keep([{**row_of("bad"), "outcome": "nonsense"}])
    await log.keep([row_of("good")])
    (row,) = await kept(db, 1)
    assert row["command_id"] == "good"
    assert attempts_dropped.labels("inventory")._value.get() == before + 1
    await log.close()
