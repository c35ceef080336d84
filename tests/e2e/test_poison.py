"""Does a message that nobody can handle stop anything, and is it kept with its cause?"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from typing import Any, cast
from uuid import uuid4

from brokers import Ends, Letter, Record, send_commands
from client import Client, Posted, until
from endings import assert_all_ended, assert_stock
from stories import COMPLETES, MIX
from system import System, settings_of

from fulcrum.saga.messages import Line, ReserveStock

_WITHIN = 30.0
_NO_FRAME = b"this is no frame"
_UNKNOWN_SCHEMA = b"\x00\x7f\xff\xff\xff\x02ab"


async def test_unreadable_records_go_to_the_dead_letter_topics(system: System, client: Client) -> None:
    """On every topic: no frame, an unknown schema, a wrong key. Kept with the reason; others go on."""
    shelf = await client.stocked(20)
    topics = [*system.events, system.decisions]
    dead = [system.topics.dlq(topic) for topic in topics]
    fine, since = await _readable(system, client), system.kafka.ends(dead)
    stray = str(uuid4()).encode()
    poison = [
        Record(topic, partition, 0, stray, value, ())
        for topic in topics
        for partition in range(settings_of(system.env).partitions)
        for value in (_NO_FRAME, _UNKNOWN_SCHEMA)
    ]
    poison += [Record(topic, 0, 0, stray, record.value, ()) for topic, record in fine.items()]

    await asyncio.to_thread(system.kafka.write, poison)
    posted = await client.post_all(MIX, shelf)
    await assert_all_ended(client, posted, system.psp, _WITHIN)
    await system.until_idle()

    # A decision is read by two: the bridge and the projector each keep their copy.
    expected = Counter((record.topic, record.value) for record in poison)
    expected += Counter((record.topic, record.value) for record in poison if record.topic == system.decisions)
    letters = await asyncio.to_thread(system.kafka.read, dead, since)
    assert Counter((letter.header("fulcrum-dlq-topic"), letter.value) for letter in letters) == expected
    reasons = {_NO_FRAME: "no frame", _UNKNOWN_SCHEMA: "schema"}
    for letter in letters:
        assert reasons.get(letter.value, "is not the workflow id") in (
            letter.header("fulcrum-dlq-error") or ""
        )
        assert letter.key == stray
    await assert_stock(client, shelf, posted)


async def _readable(system: System, client: Client) -> dict[str, Record]:
    """A good record of each event topic on which a workflow that completes leaves one."""
    shelf = await client.stocked(1)
    since: Ends = system.kafka.ends(system.events)
    await client.until_final(await client.post_all([COMPLETES], shelf), _WITHIN)
    return {record.topic: record for record in system.kafka.read(system.events, since)}


async def test_an_unreadable_command_is_parked_and_discarded(system: System, client: Client) -> None:
    """It is parked with its bytes and cause while others go on, shown by API and CLI, and can be given up."""
    shelf = await client.stocked(1)
    message_id = str(uuid4())

    await _send(system, Letter("payment", b"junk", message_id, "AuthorizePayment", {}))
    posted = await client.post_all([COMPLETES], shelf)
    await assert_all_ended(client, posted, system.psp, _WITHIN)
    parked = await _parked(client, message_id)
    assert (parked["reason"], parked["error_class"], parked["service"]) == ("corrupt", "Corrupt", "payment")

    listed = await _fulcrum(system, "parked", "list", "--status", "parked", "-o", "json")
    assert parked["id"] in [row["id"] for row in json.loads(listed)]
    shown = json.loads(await _fulcrum(system, "parked", "show", parked["id"], "-o", "json"))
    assert (shown["body"], shown["decoded"]) == ("anVuaw==", None)
    await _fulcrum(system, "parked", "discard", parked["id"], "--reason", "a test")
    assert (await _parked(client, message_id))["status"] == "discarded"


async def test_an_id_with_another_body_has_no_effect(system: System, client: Client) -> None:
    """A command under the id of one that took effect, but for more, is parked; the stock stays as it was."""
    shelf = await client.stocked(3)
    since = system.kafka.ends([system.decisions])
    posted = await client.post_all([COMPLETES], shelf)
    await client.until_final(posted, _WITHIN)
    issued = [command for decision in await system.journal(since) for command in decision.commands]
    reserve = next(command for command in issued if command.type == "ReserveStock")
    more = replace(cast(ReserveStock, system.codec.decode(reserve.body)), lines=(Line(shelf.full, 2),))

    await _send(system, Letter("inventory", system.codec.encode(more), reserve.command_id, reserve.type, {}))
    parked = await _parked(client, reserve.command_id)

    assert parked["error_class"] == "Corrupt"
    await assert_all_ended(client, posted, system.psp, _WITHIN)
    await assert_stock(client, shelf, posted)


async def test_a_parked_command_takes_effect_once_when_replayed(system: System, client: Client) -> None:
    """The provider is away until the retries are used up; replayed after its return, it authorises once."""
    shelf = await client.stocked(2)
    await system.stop("psp-simulator")
    posted = await client.post_all([COMPLETES, COMPLETES], shelf)
    parked = [await _parked(client, await _asked(client, item)) for item in posted]
    assert {row["reason"] for row in parked} == {"exhausted"}
    assert [row["workflow_id"] for row in parked] == [item.workflow_id for item in posted]
    await system.start("psp-simulator")

    answer = await client.call("POST", f"/v1/parked/{parked[0]['id']}/replay", _BY_US)
    assert answer.status == 200, answer
    await _fulcrum(system, "parked", "replay", parked[1]["id"], "--reason", "the provider is back")

    await assert_all_ended(client, posted, system.psp, _WITHIN)
    await assert_stock(client, shelf, posted)
    assert (await _parked(client, parked[0]["message_id"]))["status"] == "replayed"


_BY_US = {"actor": "test", "reason": "the provider is back"}


async def _asked(client: Client, item: Posted) -> str:
    """The id of the command that the workflow waits for."""

    async def command() -> str | None:
        view = await client.workflow(item.workflow_id)
        return next((c["command_id"] for entry in view["timeline"] for c in entry["commands"]), None)

    return str(await until(command, "the workflow has asked for its payment"))


async def _parked(client: Client, message_id: str) -> dict[str, Any]:
    """The parked message with that id, once it is there."""

    async def find() -> dict[str, Any] | None:
        rows = await client.pages("/v1/parked?limit=200")
        return next((row for row in rows if row["message_id"] == message_id), None)

    found: dict[str, Any] = await until(find, f"message {message_id} is parked")
    return found


async def _send(system: System, letter: Letter) -> None:
    await send_commands(system.env["FULCRUM_RABBITMQ_URL"], system.namespace, [letter])


async def _fulcrum(system: System, *arguments: str) -> str:
    """What the command prints; it must succeed."""
    done = await asyncio.to_thread(system.cli, *arguments)
    assert done.returncode == 0, f"fulcrum {' '.join(arguments)}: {done.stderr}{done.stdout}"
    return done.stdout
