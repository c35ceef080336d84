"""Does a second delivery of anything change anything?"""

from __future__ import annotations

import pytest
from brokers import Letter, send_commands
from client import Client, until
from endings import assert_all_ended, assert_stock
from stories import MIX
from system import System

from fulcrum.saga.messages import DecisionMade
from fulcrum.wire.codec import open_codec

_WITHIN = 30.0


async def test_every_event_twice_changes_nothing(system: System, client: Client) -> None:
    """Each record of the event topics is written once more: same ends, same versions, no second effect."""
    shelf = await client.stocked(50)
    since = system.kafka.ends(system.events)
    posted = await client.post_all(MIX, shelf)
    before = await client.until_final(posted, _WITHIN)
    mine = {item.workflow_id.encode() for item in posted}
    records = [record for record in system.kafka.read(system.events, since) if record.key in mine]
    assert len(records) >= 2 * len(posted)

    system.kafka.write(records)
    await system.until_idle()

    after = await client.until_final(posted, _WITHIN)
    assert {i: v["version"] for i, v in after.items()} == {i: v["version"] for i, v in before.items()}
    await assert_all_ended(client, posted, system.psp, _WITHIN)
    await assert_stock(client, shelf, posted)
    assert system.dead_letters() == 0


async def test_every_command_twice_has_one_effect(system: System, client: Client) -> None:
    """Each command that left is published once more with its id: the stored answer comes, nothing else."""
    shelf = await client.stocked(50)
    since = system.kafka.ends([system.decisions])
    posted = await client.post_all(MIX, shelf)
    before = await client.until_final(posted, _WITHIN)
    codec = await open_codec(system.settings)
    mine = {item.workflow_id for item in posted}
    decisions = [codec.decode(record.value) for record in system.kafka.read([system.decisions], since)]
    letters = [
        Letter(command.service, command.body, command.command_id, command.type, {})
        for decision in decisions
        if isinstance(decision, DecisionMade) and decision.workflow_id in mine
        for command in decision.commands
    ]
    assert len(letters) == sum(len(item.story.commands) for item in posted)
    events = system.kafka.count(system.events)

    await send_commands(system.env["FULCRUM_RABBITMQ_URL"], system.namespace, letters)
    await until(
        lambda: system.kafka.count(system.events) >= events + len(letters),
        "every repeated command is answered again",
    )
    await system.until_idle()

    after = await client.until_final(posted, _WITHIN)
    assert {i: v["version"] for i, v in after.items()} == {i: v["version"] for i, v in before.items()}
    await assert_all_ended(client, posted, system.psp, _WITHIN)
    await assert_stock(client, shelf, posted)
    assert await client.pages("/v1/parked?status=parked") == []


@pytest.fixture(autouse=True)
async def _quiet(system: System) -> None:
    """Start when nothing of another test is still on its way."""
    await system.until_idle()
