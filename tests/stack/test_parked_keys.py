"""A key of an outbox that has stopped goes on when it is told to, and nothing of it overtakes."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Sequence
from uuid import uuid4

import pytest
import pytest_asyncio
from commandbus import running
from eventually import eventually_async
from intake import Api
from sqlalchemy import select

from fulcrum.errors import NotFound, Rejected
from fulcrum.operations.releasing import release_key
from fulcrum.settings import Settings
from fulcrum.store import outbox
from fulcrum.store.database import Database
from fulcrum.store.outbox import OutboxRow
from fulcrum.store.relations import messaging
from fulcrum.store.relay import Relay
from fulcrum.store.release import list_parked_keys

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAYMENTS = messaging("payments")


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_parked(db: Database) -> AsyncIterator[None]:
    await db.execute(PAYMENTS.outbox_parked.delete())
    yield


async def emit(db: Database, key: bytes, *values: bytes) -> None:
    """Emit events of ``key`` in one transaction."""
    rows = [OutboxRow(str(uuid4()), "t", key, value, {}) for value in values]
    async with db.transaction() as tx:
        await outbox.add(tx, PAYMENTS, rows)


class Kafka:
    """What the relay sends to: it refuses some values for good, until it is told to take them."""

    def __init__(self, *refused: bytes) -> None:
        self.refused = set(refused)
        self.taken: list[tuple[bytes, bytes]] = []

    async def send(self, rows: Sequence[OutboxRow], may_send: Callable[[], bool]) -> int:
        """Take the rows before the first that is refused."""
        for number, row in enumerate(rows):
            if row.value in self.refused:
                if number == 0:
                    raise Rejected(f"{row.value!r} is too large")
                return number
            self.taken.append((row.key, row.value))
        return len(rows)

    def of(self, key: bytes) -> list[bytes]:
        """What was taken of ``key``, first occurrences in their order."""
        return list(dict.fromkeys(value for each, value in self.taken if each == key))


async def parked(db: Database, count: int) -> None:
    """Wait until so many rows are parked."""

    async def enough() -> bool:
        return len(await db.all(select(PAYMENTS.outbox_parked.c.id))) == count

    await eventually_async(enough, within=10)


async def test_released_key_goes_on_in_order(db: Database, settings: Settings) -> None:
    """What was parked leaves first, what came meanwhile behind it, under a relay that never stopped."""
    kafka = Kafka(b"a1")
    async with running(Relay(db, PAYMENTS, settings, "payment", kafka.send)):
        await emit(db, b"a", b"a1", b"a2")
        await emit(db, b"b", b"b1")
        await parked(db, 2)
        (shown,) = await list_parked_keys(db, 10)
        assert (shown["outbox"], shown["key"], shown["rows"]) == ("payments", b"a", 2)
        assert "too large" in shown["error"]
        kafka.refused.clear()
        row = await release_key(db, "payments", b"a", "ana", "the limit is raised")
        assert (row["kind"], row["state"], row["total"], row["succeeded"]) == ("release", "done", 2, 2)
        await emit(db, b"a", b"a3")

        async def all_taken() -> bool:
            return kafka.of(b"a") == [b"a1", b"a2", b"a3"]

        await eventually_async(all_taken, within=20, state=lambda: kafka.taken)
    assert kafka.of(b"b") == [b"b1"]
    assert await list_parked_keys(db, 10) == []


async def test_key_that_is_still_refused_is_parked_again(db: Database, settings: Settings) -> None:
    """Released too early, it stops again with all its rows; the other keys go on."""
    kafka = Kafka(b"c1")
    async with running(Relay(db, PAYMENTS, settings, "payment", kafka.send)):
        await emit(db, b"c", b"c1", b"c2")
        await parked(db, 2)
        await release_key(db, "payments", b"c", "ana", "try")
        await emit(db, b"d", b"d1")

        async def passed() -> bool:
            return kafka.of(b"d") == [b"d1"]

        await eventually_async(passed, within=20)
        await parked(db, 2)
    assert kafka.of(b"c") == []


async def test_key_that_is_not_parked_is_not_found(db: Database) -> None:
    """Nothing is released, and who leads the relay stays."""
    before = await db.one(select(PAYMENTS.lease.c.epoch))
    with pytest.raises(NotFound, match="'x' is not parked"):
        await release_key(db, "payments", b"x", "ana", "try")
    assert await db.one(select(PAYMENTS.lease.c.epoch)) == before


async def test_keys_are_listed_and_released_by_http(api: Api, db: Database, settings: Settings) -> None:
    """The key is shown as text and in a form that fits into an address."""
    workflow_id = str(uuid4())
    kafka = Kafka(b"e1")
    async with running(Relay(db, PAYMENTS, settings, "payment", kafka.send)):
        await emit(db, workflow_id.encode(), b"e1")
        await parked(db, 1)
    (shown,) = (await api.get("/v1/parked-keys")).body["items"]
    assert (shown["key_text"], shown["rows"]) == (workflow_id, 1)
    assert base64.urlsafe_b64decode(shown["key"]) == workflow_id.encode()
    address = f"/v1/parked-keys/payments/{shown['key']}/release"
    seen = await api.post(address, {"actor": "ana", "reason": "the limit is raised"})
    assert (seen.status, seen.body["kind"]) == (200, "release")
    assert (await api.get("/v1/parked-keys")).body["items"] == []
    assert (await api.post(address, {"actor": "ana", "reason": "again"})).status == 404
