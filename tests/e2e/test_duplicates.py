"""Does a second delivery of anything change anything?"""

from __future__ import annotations

import asyncio

from brokers import Ends, Letter, send_commands
from client import FINAL, Client, Posted, until
from endings import assert_all_ended, assert_journal, assert_sound, assert_stock
from eventually import eventually_async
from stories import MIX
from system import System

from fulcrum.doctor.invariants import Violation

_WITHIN = 60.0


class Echo:
    """Sends every event and command once more; ``events`` and ``commands`` hold (workflow id, its id)."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._since: Ends = system.kafka.ends([*system.events, system.decisions])
        self.events: set[tuple[str, str]] = set()
        self.commands: set[tuple[str, str]] = set()

    async def repeat(self) -> int:
        """Repeat what was not repeated yet; returns how many messages that were."""
        return await self._repeat_events() + await self._repeat_commands()

    async def _repeat_events(self) -> int:
        kafka = self._system.kafka
        records = await asyncio.to_thread(kafka.read, self._system.events, self._since)
        fresh = {(record.key.decode(), record.header("ce_id") or ""): record for record in records}
        fresh = {name: record for name, record in fresh.items() if name not in self.events}
        await asyncio.to_thread(kafka.write, list(fresh.values()))
        self.events.update(fresh)
        return len(fresh)

    async def _repeat_commands(self) -> int:
        fresh = {
            (decision.workflow_id, command.command_id): Letter(
                command.service, command.body, command.command_id, command.type, {}
            )
            for decision in await self._system.journal(self._since)
            for command in decision.commands
        }
        fresh = {name: letter for name, letter in fresh.items() if name not in self.commands}
        if fresh:
            url = self._system.env["FULCRUM_RABBITMQ_URL"]
            await send_commands(url, self._system.namespace, list(fresh.values()))
        self.commands.update(fresh)
        return len(fresh)

    async def until_answered(self, posted: list[Posted]) -> None:
        """Wait until everything was repeated and everybody has finished with it; fails when not all was."""
        mine = {item.workflow_id for item in posted}
        commands = [name for name in self.commands if name[0] in mine]
        events = [name for name in self.events if name[0] in mine]
        assert len(commands) == sum(len(item.story.commands) for item in posted)
        assert len(events) == len(posted) + len(commands)
        # On the topics lie each event, its repeat, and the same answer again to each repeated command.
        least = sum(self._since[place] for place in self._since if place[0] in self._system.events)
        least += 2 * len(events) + len(commands)
        await until(
            lambda: self._system.kafka.count(self._system.events) >= least, "every repeat is answered again"
        )
        await self._system.until_idle()


async def test_every_message_twice_changes_nothing(
    system: System, client: Client, known: list[Violation]
) -> None:
    """Events and commands are repeated while workflows run: same ends, dense versions, no second effect."""
    shelf = await client.stocked(50)
    since = system.kafka.ends([system.decisions])
    dead = system.dead_letters()
    echo = Echo(system)

    posted = await client.post_all(MIX * 5, shelf)
    await _repeat_until_final(client, echo, posted)
    await echo.until_answered(posted)

    await assert_all_ended(client, posted, system.psp, _WITHIN)
    assert_journal(await system.journal(since), posted)
    await assert_stock(client, shelf, posted)
    assert system.dead_letters() == dead
    await assert_sound(system.env, known)


async def test_every_message_twice_after_the_end_changes_nothing(system: System, client: Client) -> None:
    """Events and commands repeated when all is over are answered from memory: nothing moves any more."""
    shelf = await client.stocked(20)
    since = system.kafka.ends([system.decisions])
    echo = Echo(system)
    posted = await client.post_all(MIX, shelf)
    before = await client.until_final(posted, _WITHIN)

    await echo.repeat()
    await echo.until_answered(posted)

    after = await client.until_final(posted, _WITHIN)
    assert {i: v["timeline"] for i, v in after.items()} == {i: v["timeline"] for i, v in before.items()}
    await assert_all_ended(client, posted, system.psp, _WITHIN)
    assert_journal(await system.journal(since), posted)
    await assert_stock(client, shelf, posted)


async def test_a_receipt_told_twice_is_counted_once(client: Client) -> None:
    """The same receipt with the same key publishes the same command: the stock grows once."""
    shelf = await client.stocked(3)

    await client.receive(shelf.full, 3, key="first")
    await client.receive(shelf.full, 4, key="second")

    # One queue, one consumer, in order: what follows the repeat is counted after it.
    stock = await until(lambda: _grown(client, shelf.full, 7), "the second receipt is counted")
    assert stock["received"] == stock["available"] == 7


async def _grown(client: Client, sku: str, least: int) -> dict[str, int] | None:
    stock = await client.stock(sku)
    return stock if stock["received"] >= least else None


async def _repeat_until_final(client: Client, echo: Echo, posted: list[Posted]) -> None:
    """Repeat whatever appears until every workflow has ended and nothing new appears."""
    views: dict[str, str] = {}

    async def over() -> bool:
        repeated = await echo.repeat()
        left = [item for item in posted if views.get(item.workflow_id) not in FINAL]
        for view in await asyncio.gather(*(client.workflow(item.workflow_id) for item in left)):
            views[view["workflow_id"]] = view["status"]
        return not repeated and all(status in FINAL for status in views.values())

    await eventually_async(over, within=_WITHIN, state=lambda: views)
