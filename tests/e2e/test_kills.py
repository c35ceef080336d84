"""Is anything lost or done twice when a process dies in the middle of two hundred workflows?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from client import Client, until
from endings import assert_all_ended, assert_journal, assert_sound, assert_stock
from stories import MIX, Story
from system import System

from fulcrum.doctor.invariants import Violation
from fulcrum.saga.run import Status

_WORKFLOWS, _FEW = 200, 40
_WITHIN = 60.0


@dataclass(frozen=True)
class Kill:
    """``kill -9`` of ``role`` once ``count`` records of the workflows are on the topic of ``stream``."""

    role: str
    stream: str
    count: int


#: Who is killed, and when. The agents' process holds orchestrator and bridge, so it dies twice: while runs
#: start, and while their commands flow. The relays live in intake, payment and inventory.
_KILLS = {
    "orchestrator": Kill("agents", "intents", 30),
    "bridge": Kill("agents", "payments", 60),
    "payment worker": Kill("payment", "payments", 60),
    "inventory worker": Kill("inventory", "inventory", 60),
    "relay": Kill("intake", "intents", 60),
    "projector": Kill("projector", "decisions", 150),
}


@pytest.mark.parametrize("kill", _KILLS.values(), ids=_KILLS)
async def test_a_killed_role_loses_and_doubles_nothing(
    system: System, client: Client, known: list[Violation], kill: Kill
) -> None:
    """``kill -9`` in the middle: every workflow ends right, with each effect once and the stock conserved."""
    await system.until_all_ready()
    shelf = await client.stocked(_WORKFLOWS)
    stream = [system.topics.stream(kill.stream)]
    before, since = system.kafka.count(stream), system.kafka.ends([system.decisions])
    dead = system.dead_letters()

    posting = asyncio.create_task(client.post_all(_stories(_WORKFLOWS), shelf))
    await until(
        lambda: system.kafka.count(stream) - before >= kill.count, f"{kill.count} records are on {stream}"
    )
    restarts = system.kill(kill.role)
    ended = {d.workflow_id for d in await system.journal(since) if Status(d.status).final}
    assert len(ended) < _WORKFLOWS, "the kill came too late to prove anything"
    posted = await posting
    await system.until_back(kill.role, restarts)

    await assert_all_ended(client, posted, system.psp, _WITHIN)
    await system.until_idle()
    assert_journal(await system.journal(since), posted)
    await assert_stock(client, shelf, posted)
    assert system.dead_letters() == dead
    await assert_sound(system.env, known)


async def test_late_copies_come_to_rest_in_a_process_that_remembers_nothing(
    system: System, client: Client, known: list[Violation]
) -> None:
    """Killed in the middle and again after the end, then a copy of every event: no repeat causes another."""
    shelf = await client.stocked(_FEW)
    since = system.kafka.ends([*system.events, system.decisions])
    posting = asyncio.create_task(client.post_all(_stories(_FEW), shelf))
    await until(lambda: system.kafka.read([system.topics.stream("payments")], since), "commands flow")
    restarts = system.kill("agents")
    posted = await posting
    await system.until_back("agents", restarts)
    await client.until_final(posted, _WITHIN)
    await system.until_back("agents", system.kill("agents"))

    records = await asyncio.to_thread(system.kafka.read, system.events, since)
    await asyncio.to_thread(system.kafka.write, records)
    await system.until_idle()

    await assert_all_ended(client, posted, system.psp, _WITHIN)
    assert_journal(await system.journal(since), posted)
    await assert_stock(client, shelf, posted)
    await assert_sound(system.env, known)


def _stories(count: int) -> list[Story]:
    return [MIX[number % len(MIX)] for number in range(count)]
