"""Operations on real servers: messages to do something to, a runner, and how a test waits for the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from commandbus import CODEC, headers_of, reserve, running
from eventually import eventually_async
from sqlalchemy import delete, insert

from fulcrum.commands.delivery import headers_parked
from fulcrum.commands.parking import get_parked
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.operations.asked import Ask
from fulcrum.operations.editing import Editor
from fulcrum.operations.relations import GROUPS, ITEMS, OPERATIONS
from fulcrum.operations.requests import Request
from fulcrum.operations.runner import Runner
from fulcrum.operations.sending import Sender
from fulcrum.operations.store import create, get_operation, list_items
from fulcrum.saga.messages import ReserveStock
from fulcrum.settings import Settings
from fulcrum.store.database import Database, Row
from fulcrum.store.relations import PARKED_MESSAGES
from fulcrum.wire.codec import Codec

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
WHO, WHY = "ana", "the provider is back"
#: Seconds in which an operation ends when nothing holds it up.
ENDS_WITHIN = 20.0


async def cleared(db: Database) -> None:
    """Forget every parked message and operation."""
    for table in (ITEMS, OPERATIONS, GROUPS, PARKED_MESSAGES):
        await db.execute(delete(table))


def parked_row(command: ReserveStock | None = None, **changes: Any) -> dict[str, Any]:
    """A command of inventory as the parker keeps it."""
    command = command or reserve()
    return {
        "id": str(uuid4()),
        "parked_at": BEGAN,
        "service": "inventory",
        "message_id": command.command_id,
        "type": "ReserveStock",
        "workflow_id": command.workflow_id,
        "queue": "commands.inventory",
        "reason": "exhausted",
        "error_class": "KeyError",
        "error": "no row",
        "fingerprint": "f1",
        "attempts": 3,
        "headers": headers_parked(headers_of(command), KeyError("no row"), "exhausted"),
        "body": CODEC.encode(command),
        "decoded": {"step": "ReserveStock"},
        **changes,
    }


async def park_rows(db: Database, rows: int, **changes: Any) -> list[str]:
    """Keep so many commands, each a second younger than the one before; returns their ids."""
    made = [parked_row(**{"parked_at": BEGAN + timedelta(seconds=n), **changes}) for n in range(rows)]
    for row in made:
        await db.execute(insert(PARKED_MESSAGES).values(row))
    return [row["id"] for row in made]


async def offline(*_: object) -> Codec:
    """The codec by which these messages were written."""
    return CODEC


async def ask_nobody(*_: object) -> None:
    """For operations on parked messages."""
    raise AssertionError("this operation asks no workflow")


def runner_of(
    db: Database,
    settings: Settings,
    publisher: CommandPublisher | None = None,
    ask: Ask | None = None,
    **options: Any,
) -> Runner:
    """A runner that sends by ``publisher`` and asks by ``ask``."""

    async def given() -> CommandPublisher:
        assert publisher is not None, "this operation sends nothing"
        return publisher

    sender, editor = Sender(db, settings, given), Editor(settings, offline)
    return Runner(db, settings, sender, editor, ask or ask_nobody, **options)


@asynccontextmanager
async def operating(
    db: Database, settings: Settings, publisher: CommandPublisher | None = None, **options: Any
) -> AsyncIterator[Runner]:
    """A runner at work."""
    runner = runner_of(db, settings, publisher, **options)
    async with running(runner):
        yield runner


def request(kind: str = "replay", ids: Sequence[str] = (), **changes: Any) -> Request:
    """An operation that ana asks for."""
    return Request(kind, WHO, WHY, ids=ids, **changes)


async def until(db: Database, operation: str, *states: str) -> Row:
    """The operation, once it is in one of ``states``."""

    async def arrived() -> Row | None:
        row = await get_operation(db, operation)
        return row if row["state"] in states else None

    found = await eventually_async(arrived, within=ENDS_WITHIN, state=lambda: get_operation(db, operation))
    assert found is not None
    return found


async def outcomes(db: Database, operation: str) -> list[tuple[str, str | None]]:
    """State and outcome of each item, in their order."""
    items, _ = await list_items(db, operation, limit=1000)
    return [(item["state"], item["outcome"]) for item in items]


async def act(
    db: Database, settings: Settings, kind: str, parked_id: str, publisher: CommandPublisher | None = None
) -> Row:
    """Do one thing to one message; the message afterwards."""
    made, _ = await create(db, request(kind, [parked_id]))
    async with operating(db, settings, publisher):
        await until(db, made["id"], "done")
    return await get_parked(db, parked_id)
