"""What is done to many parked messages at once ends with one outcome for each, whatever happens meanwhile.

Long, because an operation is followed from its plan to its end, and held up or killed in between.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from aio_pika.abc import AbstractChannel
from commandbus import CODEC, broker, depth, reserve, running, settings_of, take_all
from eventually import eventually_async
from operated import (
    BEGAN,
    WHO,
    WHY,
    act,
    cleared,
    operating,
    outcomes,
    park_rows,
    parked_row,
    request,
    runner_of,
    until,
)
from sqlalchemy import insert, update

from fulcrum.commands.consumer import CommandConsumer
from fulcrum.commands.parking import Filter, Parker, get_parked
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.commands.topology import Topology
from fulcrum.errors import Conflict, NotFound, Rejected
from fulcrum.operations import groups, moves, store
from fulcrum.operations.control import control
from fulcrum.operations.outcomes import observe
from fulcrum.operations.relations import OPERATIONS
from fulcrum.operations.requests import edited_id
from fulcrum.operations.retention import Retention
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.store.relations import PARKED_MESSAGES, messaging
from fulcrum.wire.codec import offline_codec


@pytest.fixture
def settings(namespace: Mapping[str, str]) -> Settings:
    return settings_of(namespace, canary_wait=0.5)


@pytest_asyncio.fixture
async def channel(settings: Settings) -> AsyncIterator[AbstractChannel]:
    async with broker(settings) as found:
        yield found


@pytest_asyncio.fixture
async def db(settings: Settings) -> AsyncIterator[Database]:
    database = await Database.open(settings.postgres_dsn, size=8)
    await cleared(database)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def publisher(settings: Settings, channel: AbstractChannel) -> AsyncIterator[CommandPublisher]:
    found = await CommandPublisher.open(settings)
    yield found
    await found.close()


async def queued(settings: Settings, channel: AbstractChannel) -> list[str]:
    """The ids of the messages that lie on inventory's queue, taken off it."""
    found = await take_all(channel, Topology(settings.namespace).queue("inventory"))
    return [str(message.message_id) for message in found]


async def message_ids(db: Database, ids: list[str]) -> list[str]:
    """Under which id each of the parked messages is sent."""
    rows = [await get_parked(db, each) for each in ids]
    return [row["message_id"] for row in rows]


async def start(db: Database, *arguments: Any, **changes: Any) -> str:
    """Store an operation; its id."""
    made, _ = await store.create(db, request(*arguments, **changes))
    return str(made["id"])


async def take_effect(db: Database, message_id: str) -> None:
    """Let inventory's inbox know the outcome of a command."""
    inbox = messaging("inventory").inbox
    row = {"consumer": "inventory", "message_id": message_id, "fingerprint": b"f", "outcome": []}
    await db.execute(insert(inbox).values(row))


# --- plan -----------------------------------------------------------------------------------------


async def test_plan_tells_what_it_would_take_and_does_nothing(db: Database, settings: Settings) -> None:
    """A dry run counts what is matched, taken and left out, with the reasons, and stores nothing."""
    ids = await park_rows(db, 4)
    await act(db, settings, "discard", ids[0])
    planned = await store.plan(db, request(ids=[*ids, str(uuid4())], limit=2))
    assert (planned.matched, planned.included) == (5, 2)
    assert planned.excluded == {"already discarded": 1, "does not exist": 1, "beyond the limit": 1}
    assert [row["kind"] for row in (await store.list_operations(db))[0]] == ["discard"]


async def test_selection_is_frozen_when_the_operation_is_stored(
    db: Database, settings: Settings, publisher: CommandPublisher, channel: AbstractChannel
) -> None:
    """What is parked afterwards is not touched, though the filter would match it."""
    await park_rows(db, 2, fingerprint="a1")
    operation = await start(db, filter=Filter(group="a1"))
    (late,) = await park_rows(db, 1, fingerprint="a1")
    async with operating(db, settings, publisher):
        row = await until(db, operation, "done")
    assert (row["matched"], row["total"], row["succeeded"]) == (2, 2, 2)
    assert (await get_parked(db, late))["status"] == "parked"
    assert len(await queued(settings, channel)) == 2


async def test_message_is_in_one_operation_at_a_time(db: Database) -> None:
    """What another operation has yet to do is left out; an operation with nothing to do is refused."""
    ids = await park_rows(db, 2)
    await start(db, ids=ids[:1])
    planned = await store.plan(db, request("discard"))
    assert (planned.included, planned.excluded) == (1, {"in another operation": 1})
    with pytest.raises(Conflict, match=r"nothing to discard: 1 matched \(1 in another operation\)"):
        await store.create(db, request("discard", ids[:1]))


async def test_repeated_key_starts_nothing_new(db: Database) -> None:
    """The same request under one key is the same operation; another request under it is refused."""
    await park_rows(db, 2)
    first, before = await store.create(db, request(), "k-1")
    again, repeated = await store.create(db, request(), "k-1")
    assert (first["id"], before, repeated) == (again["id"], False, True)
    with pytest.raises(store.KeyReused):
        await store.create(db, request("discard"), "k-1")
    assert len((await store.list_operations(db))[0]) == 1


async def test_nobody_acts_anonymously_or_for_no_reason(db: Database) -> None:
    """Actor and reason are asked for before anything is looked at."""
    with pytest.raises(Rejected, match="actor"):
        await store.create(db, store.Request("replay", " ", "x"))
    with pytest.raises(Rejected, match="reason"):
        await store.plan(db, store.Request("replay", "ana", ""))


# --- carrying out ---------------------------------------------------------------------------------


async def test_replay_sends_each_once_oldest_first_and_says_by_whom(
    db: Database, settings: Settings, publisher: CommandPublisher, channel: AbstractChannel
) -> None:
    """Each message leaves under its own id, and remembers operation, actor and reason."""
    ids = await park_rows(db, 5)
    operation = await start(db)
    async with operating(db, settings, publisher):
        row = await until(db, operation, "done")
    assert (row["total"], row["succeeded"], row["pending"]) == (5, 5, 0)
    assert await outcomes(db, operation) == [("succeeded", "sent")] * 5
    assert await queued(settings, channel) == await message_ids(db, ids)
    shown = await get_parked(db, ids[0])
    assert (shown["status"], shown["operation_id"]) == ("replayed", operation)
    assert (shown["actor"], shown["note"]) == (WHO, WHY)


async def test_what_changed_since_the_plan_is_skipped_with_the_reason(
    db: Database, settings: Settings, publisher: CommandPublisher, channel: AbstractChannel
) -> None:
    """A message that somebody discarded in the meantime is not sent."""
    ids = await park_rows(db, 2)
    operation = await start(db)
    gone = update(PARKED_MESSAGES).where(PARKED_MESSAGES.c.id == ids[0]).values(status="discarded")
    await db.execute(gone)
    async with operating(db, settings, publisher):
        row = await until(db, operation, "done")
    assert (row["succeeded"], row["skipped"]) == (1, 1)
    assert await outcomes(db, operation) == [("skipped", "already discarded"), ("succeeded", "sent")]
    assert len(await queued(settings, channel)) == 1


async def test_message_that_can_never_be_sent_fails_and_the_rest_goes_on(
    db: Database, settings: Settings, publisher: CommandPublisher
) -> None:
    """An event without a key is no event: its item fails with the reason, and it stays parked."""
    odd = parked_row(
        service="events",
        origin={"topic": "t", "partition": 0, "offset": 1, "key": None, "null": False, "headers": []},
    )
    await db.execute(insert(PARKED_MESSAGES).values(odd))
    await park_rows(db, 1)
    operation = await start(db)
    async with operating(db, settings, publisher):
        row = await until(db, operation, "done")
    assert (row["succeeded"], row["failed"]) == (1, 1)
    assert (await get_parked(db, odd["id"]))["status"] == "parked"


async def test_what_became_of_a_replay_is_observed(
    db: Database, settings: Settings, publisher: CommandPublisher
) -> None:
    """One took effect, one parked again and counts as failed, of the third only the sending is known."""
    ids = await park_rows(db, 3)
    operation = await start(db)
    async with operating(db, settings, publisher):
        await until(db, operation, "done")
    first, second, _ = await message_ids(db, ids)
    await take_effect(db, first)
    await db.execute(insert(PARKED_MESSAGES).values(parked_row(message_id=second)))
    assert await observe(db) == 2
    assert await outcomes(db, operation) == [
        ("succeeded", "taken"), ("failed", "parked again"), ("succeeded", "sent"),
    ]  # fmt: skip
    row = await store.get_operation(db, operation)
    assert (row["total"], row["succeeded"], row["failed"]) == (3, 2, 1)
    assert await observe(db) == 0


async def test_earlier_parking_of_a_message_is_no_outcome(
    db: Database, settings: Settings, publisher: CommandPublisher
) -> None:
    """A second row of one message that was there before the replay says nothing about it."""
    (parked_id,) = await park_rows(db, 1)
    (message_id,) = await message_ids(db, [parked_id])
    await db.execute(insert(PARKED_MESSAGES).values(parked_row(message_id=message_id, status="replayed")))
    operation = await start(db, ids=[parked_id])
    async with operating(db, settings, publisher):
        await until(db, operation, "done")
    assert await observe(db, operation) == 0
    assert await outcomes(db, operation) == [("succeeded", "sent")]


# --- canary and ratio -----------------------------------------------------------------------------


async def test_canaries_that_park_again_stop_the_rest(
    db: Database, settings: Settings, publisher: CommandPublisher
) -> None:
    """With a worker that still refuses, one message is tried and the others stay parked."""
    ids = await park_rows(db, 4)
    operation = await start(db, canary=1)

    async def refuse(_: object) -> None:
        raise Rejected("still wrong")

    patient = settings.model_copy(update={"canary_wait": 30.0})
    async with (
        running(CommandConsumer(settings, "inventory", CODEC.read, refuse, 1)),
        running(Parker(db, settings, "inventory", CODEC.read)),
        operating(db, patient, publisher),
    ):
        row = await until(db, operation, "stopped")
    assert row["why"] == "1 of 1 canaries failed or parked again"
    assert (row["failed"], row["pending"], row["succeeded"]) == (1, 3, 0)
    assert (await outcomes(db, operation))[0] == ("failed", "parked again")
    assert {(await get_parked(db, each))["status"] for each in ids[1:]} == {"parked"}


async def test_rest_follows_canaries_that_took_effect(
    db: Database, settings: Settings, publisher: CommandPublisher, channel: AbstractChannel
) -> None:
    """Nothing more is sent until the inbox has the outcome of every canary; then the rest goes."""
    ids = await park_rows(db, 4)
    sent = await message_ids(db, ids)
    operation = await start(db, canary=2)
    patient = settings.model_copy(update={"canary_wait": 30.0})
    queue = Topology(settings.namespace).queue("inventory")
    async with operating(db, patient, publisher):

        async def waits() -> bool:
            row = await store.get_operation(db, operation)
            return row["canary_until"] is not None and await depth(channel, queue) == 2

        await eventually_async(waits, within=10)
        await take_effect(db, sent[0])
        assert (await store.get_operation(db, operation))["pending"] == 2
        await take_effect(db, sent[1])
        row = await until(db, operation, "done")
    assert (row["succeeded"], row["failed"]) == (4, 0)
    assert await queued(settings, channel) == sent


async def test_silent_canaries_ask_a_person(
    db: Database, settings: Settings, publisher: CommandPublisher, channel: AbstractChannel
) -> None:
    """Canaries that show nothing in time pause the operation; who resumes it waits for them once more."""
    ids = await park_rows(db, 3)
    operation = await start(db, canary=1)
    async with operating(db, settings, publisher) as runner:
        row = await until(db, operation, "paused")
        assert row["why"] == "1 of 1 canaries have shown no outcome in time"
        assert len(await queued(settings, channel)) == 1
        await take_effect(db, (await message_ids(db, ids))[0])
        await control(db, operation, "resume", WHO, "it is slow today")
        runner.wake()
        row = await until(db, operation, "done")
    assert (row["succeeded"], row["failed"]) == (3, 0)


async def test_operation_stops_itself_when_too_many_fail(
    db: Database, settings: Settings, publisher: CommandPublisher
) -> None:
    """Beyond the ratio nothing more is sent; who resumes has seen it, and it goes on to its end."""
    bare = {"topic": "t", "partition": 0, "offset": 1, "key": None, "null": False, "headers": []}
    await park_rows(db, 8, service="events", origin=bare)
    operation = await start(db, stop_ratio=0.5)
    async with operating(db, settings, publisher) as runner:
        row = await until(db, operation, "stopped")
        assert (row["failed"], row["pending"]) == (5, 3)
        assert row["why"] == "5 of 5 failed, more than 0.5"
        await control(db, operation, "resume", WHO, "seen")
        runner.wake()
        row = await until(db, operation, "done")
    assert (row["failed"], row["pending"]) == (8, 0)


# --- holding up -----------------------------------------------------------------------------------


async def test_paused_operation_sends_nothing_until_it_is_resumed(
    db: Database, settings: Settings, publisher: CommandPublisher, channel: AbstractChannel
) -> None:
    """Pausing keeps what is left; resuming finishes it; the history names who did what."""
    await park_rows(db, 3)
    operation = await start(db)
    await control(db, operation, "pause", "ben", "wait for the others")
    async with operating(db, settings, publisher) as runner:
        other = await start(db, "discard", await park_rows(db, 1))
        runner.wake()
        await until(db, other, "done")
        assert await queued(settings, channel) == []
        await control(db, operation, "resume", "cleo", "go")
        runner.wake()
        row = await until(db, operation, "done")
    assert [(entry["act"], entry["actor"]) for entry in row["history"]] == [
        ("create", WHO), ("pause", "ben"), ("resume", "cleo"),
    ]  # fmt: skip


async def test_aborted_operation_leaves_the_rest_as_it_is(
    db: Database, settings: Settings, publisher: CommandPublisher, channel: AbstractChannel
) -> None:
    """At a slow pace one leaves; the others are skipped by the abort, and free for another operation."""
    ids = await park_rows(db, 3)
    operation = await start(db, rate=0.01)
    async with operating(db, settings, publisher):

        async def one_left() -> bool:
            return bool((await store.get_operation(db, operation))["succeeded"] == 1)

        await eventually_async(one_left, within=10)
        row = await control(db, operation, "abort", WHO, "enough")
        assert (row["state"], row["succeeded"], row["skipped"], row["pending"]) == ("aborted", 1, 2, 0)
    assert await outcomes(db, operation) == [("succeeded", "sent")] + [("skipped", "aborted")] * 2
    assert (await store.plan(db, request(ids=ids))).included == 2
    for gone in ("pause", "resume"):
        with pytest.raises(Conflict, match="is aborted"):
            await control(db, operation, gone, WHO, "x")
    with pytest.raises(NotFound):
        await control(db, str(uuid4()), "abort", WHO, "x")


# --- crashes --------------------------------------------------------------------------------------


async def test_two_runners_share_the_work_without_doing_it_twice(
    db: Database, settings: Settings, publisher: CommandPublisher, channel: AbstractChannel
) -> None:
    """Several operations under two runners: every message leaves exactly once."""
    ids = await park_rows(db, 30)
    made = [await start(db, ids=ids[n : n + 10]) for n in (0, 10, 20)]
    async with operating(db, settings, publisher), operating(db, settings, publisher):
        for operation in made:
            row = await until(db, operation, "done")
            assert (row["succeeded"], row["pending"]) == (10, 0)
    assert Counter(await queued(settings, channel)) == Counter(await message_ids(db, ids))


@pytest.mark.parametrize("point", ["begin", "send", "sent"])
async def test_runner_that_dies_anywhere_leaves_each_item_one_outcome(
    db: Database,
    settings: Settings,
    publisher: CommandPublisher,
    channel: AbstractChannel,
    point: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cancelled before a message leaves, when it has left, or when that is known: the next one ends it."""
    ids = await park_rows(db, 4)
    operation = await start(db)
    runner = runner_of(db, settings, publisher, lease=0.6)
    died = asyncio.Event()
    where: Any = runner._sender if point == "send" else moves
    original: Callable[..., Any] = getattr(where, point)
    calls = Counter[str]()

    async def dying(*arguments: Any, **options: Any) -> Any:
        result = await original(*arguments, **options)
        calls[point] += 1
        if calls[point] == 2:
            died.set()
            await asyncio.Event().wait()  # as a process that hangs until it is killed
        return result

    monkeypatch.setattr(where, point, dying)
    task = asyncio.create_task(runner.run(asyncio.Event()))
    async with asyncio.timeout(20):
        await died.wait()
    for each in [*runner._tasks, task]:
        each.cancel()
    await asyncio.gather(task, return_exceptions=True)
    monkeypatch.undo()
    async with operating(db, settings, publisher, lease=0.6):
        row = await until(db, operation, "done")
    assert (row["succeeded"], row["pending"], row["total"]) == (4, 0, 4)
    assert await outcomes(db, operation) == [("succeeded", "sent")] * 4
    found = Counter(await queued(settings, channel))
    assert set(found) == set(await message_ids(db, ids))
    assert max(found.values()) <= 2  # the one in hand may leave twice, under one id


async def test_late_runner_records_nothing(
    db: Database, settings: Settings, publisher: CommandPublisher
) -> None:
    """A runner whose lease was taken meanwhile begins nothing and records nothing."""
    await park_rows(db, 1)
    operation = await start(db)
    taken = update(OPERATIONS).values(lease_epoch=7, state="running")
    await db.execute(taken)
    work = await moves.begin(db, operation, 7, 1.0)
    assert isinstance(work, moves.Work)
    await db.execute(update(OPERATIONS).values(lease_epoch=8))
    assert await moves.begin(db, operation, 7, 1.0) is moves.Next.OVER
    assert not await moves.sent(db, work, 7)
    assert not await moves.refused(db, work, 7, "x")
    assert await moves.sent(db, work, 8)
    assert await outcomes(db, operation) == [("succeeded", "sent")]


async def test_aborted_while_a_message_is_in_hand(
    db: Database, settings: Settings, publisher: CommandPublisher, channel: AbstractChannel
) -> None:
    """A message that was begun when its runner died is finished, though the operation was aborted since."""
    await park_rows(db, 2)
    operation = await start(db)
    await db.execute(update(OPERATIONS).values(lease_epoch=1, state="running"))
    assert isinstance(await moves.begin(db, operation, 1, 1.0), moves.Work)
    row = await control(db, operation, "abort", WHO, "enough")
    assert (row["skipped"], row["pending"]) == (1, 1)
    async with operating(db, settings, publisher):

        async def finished() -> bool:
            return bool((await store.get_operation(db, operation))["pending"] == 0)

        await eventually_async(finished, within=10, state=lambda: store.get_operation(db, operation))
    assert await outcomes(db, operation) == [("succeeded", "sent"), ("skipped", "aborted")]
    assert len(await queued(settings, channel)) == 1


_ROLE = """
import asyncio, json, sys
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.operations.editing import Editor
from fulcrum.operations.runner import Runner
from fulcrum.operations.sending import Sender
from fulcrum.settings import Settings
from fulcrum.store.database import Database

async def main():
    settings = Settings.model_validate(json.loads(sys.argv[1]))
    db = await Database.open(settings.postgres_dsn, size=4)
    sender = Sender(db, settings, lambda: CommandPublisher.open(settings))
    await Runner(db, settings, sender, Editor(settings), None, lease=1.0).run(asyncio.Event())

asyncio.run(main())
"""


async def test_killed_process_leaves_each_item_one_outcome(
    db: Database, settings: Settings, publisher: CommandPublisher, channel: AbstractChannel
) -> None:
    """kill -9 in the middle, twice: the next process ends it, and the counts add up at every look."""
    ids = await park_rows(db, 40)
    operation = await start(db, rate=40.0)

    async def beyond(count: int) -> bool:
        row = await store.get_operation(db, operation)
        assert row["total"] == row["succeeded"] + row["failed"] + row["skipped"] + row["pending"] == 40
        return bool(row["succeeded"] >= count)

    for count in (5, 15):
        given = json.dumps(settings.model_dump(mode="json", exclude_none=True))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _ROLE, given, stdout=subprocess.DEVNULL
        )
        try:
            await eventually_async(lambda count=count: beyond(count), within=30)
        finally:
            process.kill()
            await process.wait()
    async with operating(db, settings, publisher, lease=1.0):
        row = await until(db, operation, "done")
    assert (row["succeeded"], row["failed"], row["skipped"]) == (40, 0, 0)
    found = Counter(await queued(settings, channel))
    assert set(found) == set(await message_ids(db, ids))
    assert sum(found.values()) <= 42  # one in hand at each kill


# --- discard, restore, retention, edit ------------------------------------------------------------


async def test_discarded_message_is_restored_until_its_body_is_deleted(
    db: Database, settings: Settings
) -> None:
    """Restoring makes it wait again; after the retention its body is gone, the row stays, and it cannot."""
    (parked_id,) = await park_rows(db, 1)
    assert (await act(db, settings, "discard", parked_id))["status"] == "discarded"
    assert (await act(db, settings, "restore", parked_id))["status"] == "parked"
    await act(db, settings, "discard", parked_id)
    assert await Retention(db, settings).sweep() == 0
    short = settings.model_copy(update={"parked_retention": 0.000001})
    assert await Retention(db, short).sweep() == 1
    row = await get_parked(db, parked_id)
    assert (row["body"], row["decoded"], row["body_deleted_at"] is None) == (b"", None, False)
    assert (row["actor"], row["note"]) == (WHO, WHY)
    with pytest.raises(Conflict, match="its body was deleted"):
        await store.create(db, request("restore", [parked_id]))


async def test_retention_leaves_what_waits(db: Database, settings: Settings) -> None:
    """A parked message keeps its body however old it is."""
    await park_rows(db, 1)
    short = settings.model_copy(update={"parked_retention": 0.000001})
    assert await Retention(db, short).sweep() == 0


async def test_edited_message_leaves_under_a_new_id_and_both_name_each_other(
    db: Database, settings: Settings, publisher: CommandPublisher, channel: AbstractChannel
) -> None:
    """The new body is checked and sent; the old message is done with, and says what took its place."""
    command = reserve("tea")
    old = parked_row(command)
    await db.execute(insert(PARKED_MESSAGES).values(old))
    patch = [{"op": "replace", "path": "/lines/0/quantity", "value": 3}]
    operation = await start(db, "edit", [old["id"]], arguments={"patch": patch})
    async with operating(db, settings, publisher):
        await until(db, operation, "done")
    before = await get_parked(db, old["id"])
    new = await get_parked(db, edited_id(operation, old["id"]))
    assert (before["status"], before["edited_as"], new["edited_from"]) == ("edited", new["id"], old["id"])
    (message,) = await take_all(channel, Topology(settings.namespace).queue("inventory"))
    sent: Any = offline_codec().decode(message.body)
    assert (sent.lines[0].quantity, sent.workflow_id) == (3, command.workflow_id)
    assert sent.command_id == message.message_id == message.headers["ce_id"] == new["message_id"]
    assert sent.command_id != command.command_id
    assert message.headers["fulcrum-edited-from"] == command.command_id
    assert new["decoded"]["lines"] == [{"sku": "tea", "quantity": 3}]


async def test_edit_that_does_not_fit_fails_and_sends_nothing(
    db: Database, settings: Settings, publisher: CommandPublisher, channel: AbstractChannel
) -> None:
    """The item names the field at fault, and the message waits as before."""
    (parked_id,) = await park_rows(db, 1)
    patch = [{"op": "replace", "path": "/lines/0/quantity", "value": "many"}]
    operation = await start(db, "edit", [parked_id], arguments={"patch": patch})
    async with operating(db, settings, publisher):
        row = await until(db, operation, "done")
    assert row["failed"] == 1
    assert await outcomes(db, operation) == [("failed", "/lines/0/quantity is 'many': give an integer")]
    assert (await get_parked(db, parked_id))["status"] == "parked"
    assert await queued(settings, channel) == []


# --- groups ---------------------------------------------------------------------------------------


async def test_groups_count_what_waits_and_keep_a_note(db: Database, settings: Settings) -> None:
    """Each cause with its counts, the latest error, and what somebody noted; an unknown one has no note."""
    ids = await park_rows(db, 3, fingerprint="a1", error="no row")
    await park_rows(db, 1, fingerprint="b2", error="no column")
    await act(db, settings, "discard", ids[0])
    row = await groups.note_group(db, "a1", "stock is being counted", "ben", WHO)
    assert (row["note"], row["owner"], row["waiting"]) == ("stock is being counted", "ben", 2)
    first, second = await groups.list_groups(db)
    assert (first["fingerprint"], first["waiting"], first["error"]) == ("a1", 2, "no row")
    assert (first["first_seen"], first["last_hour"]) == (BEGAN, 0)
    assert (second["fingerprint"], second["note"]) == ("b2", None)
    await groups.note_group(db, "a1", "done", None, "cleo")
    assert (await groups.list_groups(db))[0]["noted_by"] == "cleo"
    assert await groups.list_groups(db, "payment") == []
    with pytest.raises(NotFound):
        await groups.note_group(db, "c3", "x", None, WHO)


async def test_items_and_operations_are_read_in_pages(db: Database) -> None:
    """Pages follow each other without gap or repeat."""
    await park_rows(db, 5)
    operation = await start(db)
    seen: list[int] = []
    after: int | None = 0
    while after is not None:
        items, after = await store.list_items(db, operation, after=after, limit=2)
        seen += [item["number"] for item in items]
    assert seen == [1, 2, 3, 4, 5]
    assert (await store.list_items(db, operation, "failed"))[0] == []
    made = [operation, *[await start(db, ids=await park_rows(db, 1)) for _ in range(2)]]
    page, cursor = await store.list_operations(db, limit=2)
    rest, last = await store.list_operations(db, cursor=cursor, limit=2)
    assert [row["id"] for row in [*page, *rest]] == made[::-1]
    assert last is None
