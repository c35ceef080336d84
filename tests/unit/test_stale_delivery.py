"""Is a message whose channel is gone left alone, so that it comes again and nothing else is disturbed?"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiormq.exceptions import ChannelInvalidStateError
from eventually import eventually_async

from fulcrum.commands.parker import Parker
from fulcrum.commands.settlement import InHand
from fulcrum.settings import Settings


class _Raises:
    """A message of aio_pika once its channel is closed: asked for it, it raises."""

    @property
    def channel(self) -> Any:
        raise ChannelInvalidStateError


@pytest.mark.parametrize(
    ("message", "stale"),
    [
        (SimpleNamespace(channel=SimpleNamespace(is_closed=False)), False),
        (SimpleNamespace(channel=SimpleNamespace(is_closed=True)), True),
        (_Raises(), True),
    ],
    ids=["open", "closed", "raises"],
)
def test_it_is_stale_once_its_channel_is_gone(message: Any, stale: bool) -> None:
    """Closed, whichever way the message tells it."""
    assert InHand(message, {}).stale is stale


class _Kept:
    """A database that tells when a message was kept."""

    def __init__(self) -> None:
        self.kept = asyncio.Event()

    async def one(self, *_: object) -> None:
        """Nothing is counted."""

    async def execute(self, *_: object) -> None:
        """Note it."""
        self.kept.set()


async def test_the_parker_goes_on_past_it() -> None:
    """A connection that is lost with messages in hand does not end the parking of later ones."""
    db: Any = _Kept()
    acknowledged = asyncio.Event()

    async def ack() -> None:
        acknowledged.set()

    fresh: Any = SimpleNamespace(
        channel=SimpleNamespace(is_closed=False), headers={}, body=b"", type="T", message_id="m", ack=ack
    )
    gone: Any = _Raises()
    parker = Parker(db, Settings(), "inventory")
    parker._waiting.put_nowait(gone)
    work = asyncio.create_task(parker._work())

    async def taken() -> bool:
        return parker._waiting.empty()

    await eventually_async(taken, within=5)  # by itself, before the next one comes
    parker._waiting.put_nowait(fresh)
    async with asyncio.timeout(5):
        await acknowledged.wait()
    assert db.kept.is_set()
    work.cancel()
