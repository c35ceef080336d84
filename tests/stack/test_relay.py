"""Committed rows reach Kafka in order, once when nothing fails, whoever is sending.

Kafka is played by a list here: what the real producer promises has its own tests.

Long, because every way to stop a relay is tried on the same outbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from uuid import uuid4

import pytest
import pytest_asyncio
from commandbus import running, settings_of
from eventually import eventually_async
from link import linked
from sqlalchemy import func, insert, select, text, update

from fulcrum.errors import Misconfigured, Rejected, Unavailable
from fulcrum.settings import Settings
from fulcrum.store import outbox, relay, unsent
from fulcrum.store.database import Database, Transaction
from fulcrum.store.outbox import OutboxRow
from fulcrum.store.relations import messaging
from fulcrum.store.relay import Relay
from fulcrum.store.unsent import Unsent

R = messaging("intake")


class Kafka:
    """Takes rows and acknowledges them, unless told otherwise."""

    def __init__(self) -> None:
        self.rows: list[OutboxRow] = []
        self.calls = 0
        #: What to do with the next batches: acknowledge so many, or raise.
        self.answers: list[int | Exception] = []
        self.open = asyncio.Event()
        self.open.set()
        self.entered = asyncio.Event()

    async def send(self, rows: Sequence[OutboxRow], may_send: Callable[[], bool]) -> int:
        self.calls += 1
        self.entered.set()
        await self.open.wait()
        answer = self.answers.pop(0) if self.answers else len(rows)
        if isinstance(answer, Exception):
            raise answer
        self.rows += rows[:answer]
        return answer

    @property
    def values(self) -> list[bytes]:
        return [row.value for row in self.rows]


@pytest_asyncio.fixture
async def db(namespace: Mapping[str, str]) -> AsyncIterator[Database]:
    database = await Database.open(namespace["FULCRUM_POSTGRES_DSN"], size=8)
    for table in (R.outbox, R.outbox_parked):
        await database.execute(table.delete())
    await database.execute(update(R.lease).values(owner=None, expires_at=text("'-infinity'")))
    yield database
    await database.close()


@pytest.fixture
def settings(namespace: Mapping[str, str]) -> Settings:
    return settings_of(namespace)


async def emit(db: Database, *values: str, key: bytes = b"k") -> None:
    """Commit a row for each of ``values``."""
    async with db.transaction() as tx:
        rows = [OutboxRow(str(uuid4()), "intents", key, value.encode(), {"n": value}) for value in values]
        await outbox.add(tx, R, rows)


async def left(db: Database) -> int:
    """Rows that are not sent."""
    row = await db.one(select(func.count().label("n")).select_from(R.outbox))
    assert row is not None
    return int(row["n"])


async def drained(db: Database, within: float = 8) -> None:
    async def empty() -> bool:
        return await left(db) == 0

    await eventually_async(empty, within=within, state=lambda: left(db))


async def until(predicate: Callable[[], bool], within: float = 8) -> None:
    async def ask() -> bool:
        return predicate()

    await eventually_async(ask, within=within)


async def epoch(db: Database) -> int:
    row = await db.one(select(R.lease.c.epoch))
    assert row is not None
    return int(row["epoch"])


async def test_rows_are_sent_whole_in_order_and_deleted(db: Database, settings: Settings) -> None:
    """What was committed before the start and after it arrives in order, byte for byte, and is gone."""
    kafka = Kafka()
    await emit(db, "1", "2", "3")
    async with running(Relay(db, R, settings, "a", kafka.send)):
        await drained(db)
        await emit(db, "4")
        await drained(db)
    assert kafka.values == [b"1", b"2", b"3", b"4"]
    assert (kafka.rows[0].key, kafka.rows[0].topic, kafka.rows[0].headers) == (b"k", "intents", {"n": "1"})


async def test_many_writers_keep_each_keys_order(db: Database, settings: Settings) -> None:
    """Under concurrent writers no row is lost or sent twice, and each key's rows arrive as committed."""
    kafka = Kafka()

    async def writer(key: int) -> None:
        for n in range(60):
            await emit(db, f"{key}-{n}", key=b"%d" % key)

    async with running(Relay(db, R, settings, "a", kafka.send)):
        await asyncio.gather(*map(writer, range(6)))
        await drained(db)
    for key in range(6):
        mine = [row.value.decode() for row in kafka.rows if row.key == b"%d" % key]
        assert mine == [f"{key}-{n}" for n in range(60)]


async def test_more_rows_than_a_batch(db: Database, settings: Settings) -> None:
    """A backlog of more than one window goes out in order, in windows that grow."""
    kafka = Kafka()
    expected = [str(n) for n in range(1201)]
    await emit(db, *expected)
    async with running(Relay(db, R, settings, "a", kafka.send)):
        await drained(db)
    assert [value.decode() for value in kafka.values] == expected
    assert kafka.calls == 2


async def test_only_what_is_acknowledged_is_deleted(db: Database, settings: Settings) -> None:
    """After a part of a batch, the rest is sent again from where it stopped, in order."""
    kafka = Kafka()
    kafka.answers = [2, Unavailable("broker away"), 0, RuntimeError("a bug")]
    await emit(db, *"abcde")
    async with running(Relay(db, R, settings, "a", kafka.send)):
        await drained(db)
    assert kafka.values == [b"a", b"b", b"c", b"d", b"e"]


async def test_misconfigured_topic_is_waited_out(db: Database, settings: Settings) -> None:
    """A missing topic loses nothing: rows go out once somebody has made it."""
    kafka = Kafka()
    kafka.answers = [Misconfigured("topic intents is missing")]
    await emit(db, "a", "b")
    async with running(Relay(db, R, settings, "a", kafka.send)):
        await drained(db)
    assert kafka.values == [b"a", b"b"]


async def test_commit_wakes_the_relay(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit in this process is sent at once, not at the next look."""
    monkeypatch.setattr(relay, "_IDLE", 60.0)
    kafka = Kafka()
    part = Relay(db, R, settings, "a", kafka.send)
    async with running(part):
        await until(lambda: part.leading)
        await emit(db, "a")
        await drained(db, within=3)
        await emit(db, "b")
        await drained(db, within=3)


async def test_row_of_another_process_is_found(db: Database, settings: Settings) -> None:
    """A row that nobody told us of is sent soon all the same."""
    kafka = Kafka()
    part = Relay(db, R, settings, "a", kafka.send)
    async with running(part):
        await until(lambda: part.leading)
        values = {"event_id": str(uuid4()), "topic": "t", "key": b"k", "value": b"v", "headers": {}}
        await db.execute(insert(R.outbox).values(values))
        await drained(db, within=3)


async def test_late_commit_is_not_skipped(db: Database, settings: Settings) -> None:
    """A row with a lower id that is committed after higher ones were sent is sent too."""
    kafka = Kafka()
    values = {"event_id": str(uuid4()), "topic": "t", "key": b"late", "value": b"late", "headers": {}}
    async with running(Relay(db, R, settings, "a", kafka.send)):
        async with db.transaction() as tx:
            await tx.execute(insert(R.outbox).values(values))
            await emit(db, "early")
            await until(lambda: kafka.values == [b"early"])
        await drained(db)
    assert kafka.values == [b"early", b"late"]


async def test_second_relay_stands_by_and_follows_at_once(db: Database, settings: Settings) -> None:
    """While one sends the other only waits; when the first stops in good order the other goes on at once."""
    first, second = Kafka(), Kafka()
    one = Relay(db, R, settings, "one", first.send)
    two = Relay(db, R, settings, "two", second.send)
    async with running(one) as stop_one:
        await until(lambda: one.leading)
        async with running(two):
            await until(lambda: two.ready)
            await emit(db, "a")
            await drained(db)
            assert (first.values, second.values, two.leading) == ([b"a"], [], False)
            stop_one.set()
            await emit(db, "b")
            await drained(db, within=2.5)  # less than the lease would last
            assert second.values == [b"b"]


async def test_paused_relay_deletes_nothing(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay that slept through its lease and wakes in the middle of a batch is fenced.

    The other one has taken over and is sending the same row; the late one deletes nothing of it.
    """
    first, second = Kafka(), Kafka()
    one = Relay(db, R, settings, "one", first.send)
    two = Relay(db, R, settings, "two", second.send)
    first.open.clear()
    second.open.clear()

    async def asleep(_: object) -> bool:
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(one._lease, "renew", asleep)
    await emit(db, "a")
    async with running(one):
        await first.entered.wait()
        old = await epoch(db)
        async with running(two):
            await asyncio.wait_for(second.entered.wait(), 8)
            assert await epoch(db) == old + 1
            first.open.set()
            await until(lambda: first.values == [b"a"] and one._held is None)
            assert await left(db) == 1, "the fenced relay deleted a row"
            second.open.set()
            await drained(db)
            monkeypatch.undo()
    assert second.values == [b"a"]


async def test_dead_relay_is_followed_when_its_lease_ends(db: Database, settings: Settings) -> None:
    """What a relay that died leaves behind is sent by another one, a few seconds later."""
    await db.execute(
        update(R.lease).values(
            owner="the dead", epoch=R.lease.c.epoch + 1, expires_at=func.now() + text("interval '2 s'")
        )
    )
    kafka = Kafka()
    await emit(db, "a")
    part = Relay(db, R, settings, "b", kafka.send)
    async with running(part):
        await until(lambda: part.ready)
        assert not part.leading
        await drained(db)


async def test_restarted_relay_takes_its_own_lease_at_once(db: Database, settings: Settings) -> None:
    """A process that died and came back under its name does not wait for itself, and gets a new epoch."""
    before = await epoch(db)
    owner = f"{settings.namespace}/a/{settings.instance}"
    await db.execute(update(R.lease).values(owner=owner, expires_at=func.now() + text("interval '1 hour'")))
    kafka = Kafka()
    await emit(db, "a")
    async with running(Relay(db, R, settings, "a", kafka.send)):
        await drained(db, within=3)
        assert await epoch(db) == before + 1


async def test_postgres_away_does_not_end_the_relay(
    db: Database, settings: Settings, namespace: Mapping[str, str]
) -> None:
    """While Postgres is away the relay is not ready and waits; once it is back, rows are sent."""
    kafka = Kafka()
    async with linked(namespace["FULCRUM_POSTGRES_DSN"]) as (link, through):
        mine = await Database.open(through, size=4)
        part = Relay(mine, R, settings, "a", kafka.send)
        async with running(part):
            await until(lambda: part.leading)
            await link.cut()
            await until(lambda: not part.ready)
            await emit(db, "a")
            await link.mend()
            await drained(db)
            assert part.ready
        await mine.close()


async def test_row_that_can_never_be_sent_parks_its_key_only(db: Database, settings: Settings) -> None:
    """The row and its key's later rows are set aside with the reason, the other keys go on, and after a
    restart the key is still parked."""
    kafka = Kafka()
    kafka.answers = [1, Rejected("record too large")]
    await emit(db, "before", key=b"good")
    await emit(db, "poison", "after", key=b"bad")
    await emit(db, "other", key=b"good")
    async with running(Relay(db, R, settings, "a", kafka.send)):
        await drained(db)
        await emit(db, "later", key=b"bad")
        await drained(db)
    assert kafka.values == [b"before", b"other"]
    async with running(Relay(db, R, settings, "a", kafka.send)):
        await emit(db, "latest", key=b"bad")
        await emit(db, "fine", key=b"good")
        await drained(db)
    assert kafka.values == [b"before", b"other", b"fine"]
    parked = await db.all(select(R.outbox_parked).order_by(R.outbox_parked.c.id))
    assert [row["value"] for row in parked] == [b"poison", b"after", b"later", b"latest"]
    assert (parked[0]["error"], parked[2]["error"]) == (
        "record too large",
        "an earlier row of this key is parked",
    )


async def insert_one(tx: Database | Transaction, value: bytes = b"v") -> None:
    """A row that takes its id now."""
    row = {"event_id": str(uuid4()), "topic": "t", "key": b"k", "value": value, "headers": {}}
    await tx.execute(insert(R.outbox).values(row))


async def read_values(reader: Unsent) -> list[bytes]:
    return [row["value"] for row in (await reader.read()).rows]


async def test_gap_is_looked_into_while_its_writer_lives(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids that were rolled back are given up once nobody can hold them; one that is held is waited for."""
    monkeypatch.setattr(unsent, "_LOOK", 0.0)
    reader = Unsent(db, R)
    await insert_one(db)
    await reader.read()
    await reader.read()
    assert not reader._gaps, "nobody was writing"
    async with db.transaction() as late:
        await insert_one(late, b"late")
        with suppress(KeyError):
            async with db.transaction() as failed:
                await insert_one(failed)
                raise KeyError
        await insert_one(db, b"early")
        assert b"early" in await read_values(reader)
        for _ in range(3):
            assert await read_values(reader) == []
            assert reader._gaps, "the gap of a writer that lives was given up"
    assert await read_values(reader) == [b"late"]
    await reader.read()
    await reader.read()
    assert not reader._gaps


async def test_rows_below_the_last_id_are_found_by_a_look_at_the_whole_table(db: Database) -> None:
    """After a restore the numbering may begin again: what lies below is sent, although nobody expects it."""
    await insert_one(db, b"old")
    reader = Unsent(db, R)
    assert await read_values(reader) == [b"old"]
    await db.execute(R.outbox.delete())
    await read_values(reader)
    await read_values(reader)
    await db.execute(text("ALTER TABLE intake.outbox ALTER id RESTART WITH 1"))
    await insert_one(db, b"new")
    assert await read_values(reader) == []
    await reader.sweep()
    assert await read_values(reader) == [b"new"]


async def test_looks_at_the_whole_table_repeat_nothing(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay that looks at the whole table all the time takes nothing that is on its way for a stray row."""
    monkeypatch.setattr(unsent, "_SWEEP", 0.002)
    kafka = Kafka()
    expected = [str(n) for n in range(6000)]
    await emit(db, *expected)
    async with running(Relay(db, R, settings, "a", kafka.send)):
        await drained(db)
    assert [value.decode() for value in kafka.values] == expected


async def test_window_is_bounded_by_bytes(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large rows come in windows of a few, each with the row that reaches the bound, and none is left out."""
    monkeypatch.setattr(unsent, "_BYTES", 250_000)
    expected = [b"%d" % n * 100_000 for n in range(8)]
    for value in expected:
        await insert_one(db, value)
    reader, windows = Unsent(db, R), []
    while not windows or windows[-1].full:
        windows.append(await reader.read())
    assert [len(window.rows) for window in windows] == [3, 3, 2]
    assert [row["value"] for window in windows for row in window.rows] == expected


async def test_failed_window_leaves_the_next_one_behind_it(db: Database, settings: Settings) -> None:
    """When a window fails, the one that was read meanwhile is not sent before it."""
    kafka = Kafka()
    kafka.answers = [500, 3, 0]
    expected = [str(n) for n in range(2500)]
    await emit(db, *expected)
    async with running(Relay(db, R, settings, "a", kafka.send)):
        await drained(db)
    assert [value.decode() for value in kafka.values] == expected


async def test_stop_finishes_the_batch(db: Database, settings: Settings) -> None:
    """A relay that is stopped while Kafka has a batch waits for it and deletes what was acknowledged."""
    kafka = Kafka()
    kafka.open.clear()
    await emit(db, "a")
    async with running(Relay(db, R, settings, "a", kafka.send)) as stop:
        await kafka.entered.wait()
        stop.set()
        kafka.open.set()
    assert (kafka.values, await left(db)) == ([b"a"], 0)
