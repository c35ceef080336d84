"""Does a message that nobody can read stop anything, and is it kept with its cause?"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from brokers import Letter, Record, send_commands
from client import Client, until
from endings import assert_all_ended, assert_stock
from stories import COMPLETES, completes
from system import System

from fulcrum.saga.messages import ReceiveStock
from fulcrum.wire.codec import open_codec

_WITHIN = 30.0


async def test_unreadable_events_go_to_the_dead_letter_topic(system: System, client: Client) -> None:
    """Bytes that are no frame, an unknown schema, a wrong key: each is kept with the reason; others go on."""
    topic = system.topics.stream("payments")
    dead = system.topics.dlq(topic)
    since = system.kafka.ends([dead])
    key = str(uuid4()).encode()
    shelf = await client.stocked(1)
    fine = await _authorized_event(system, client)
    poison = {
        b"this is no frame": "no frame",
        b"\x00\x7f\xff\xff\xff\x02ab": "schema",
        fine.value: "is not the workflow id",
    }

    system.kafka.write(Record(topic, 0, 0, key, value, ()) for value in poison)
    posted = await client.post_all([COMPLETES], shelf)
    await assert_all_ended(client, posted, system.psp, _WITHIN)
    await until(lambda: len(system.kafka.read([dead], since)) >= len(poison), "all are dead-lettered")

    letters = {letter.value: letter for letter in system.kafka.read([dead], since)}
    for value, reason in poison.items():
        letter = letters[value]
        assert reason in (letter.header("fulcrum-dlq-error") or ""), letter
        assert letter.key == key
        assert letter.header("fulcrum-dlq-topic") == topic


async def _authorized_event(system: System, client: Client) -> Record:
    """A readable record of the payments topic."""
    shelf = await client.stocked(1)
    since = system.kafka.ends([system.topics.stream("payments")])
    posted = await client.post_all([COMPLETES], shelf)
    await client.until_final(posted, _WITHIN)
    return system.kafka.read([system.topics.stream("payments")], since)[0]


async def test_an_unreadable_command_is_parked_and_discarded(system: System, client: Client) -> None:
    """It is parked with its bytes and cause while others go on, listed by the CLI, and can be given up."""
    shelf = await client.stocked(1)
    message_id = str(uuid4())
    letter = Letter("payment", b"junk", message_id, "AuthorizePayment", {})

    await send_commands(system.env["FULCRUM_RABBITMQ_URL"], system.namespace, [letter])
    posted = await client.post_all([COMPLETES], shelf)
    await assert_all_ended(client, posted, system.psp, _WITHIN)
    parked = await _parked(client, message_id)
    listed = system.cli("parked", "list", "--status", "parked", "-o", "json")
    discarded = system.cli("parked", "discard", parked["id"], "--reason", "a test")

    assert parked["error_class"] == "Corrupt"
    assert parked["id"] in [row["id"] for row in json.loads(listed.stdout)]
    assert discarded.returncode == 0, discarded.stderr
    assert (await _parked(client, message_id))["status"] == "discarded"


async def test_a_replayed_command_takes_effect_once(system: System, client: Client) -> None:
    """A command that lacked what it needed is parked; replayed after the cause is gone, it takes effect."""
    sku = f"replay-{uuid4().hex[:8]}"
    codec = await open_codec(system.settings)
    command = ReceiveStock(
        command_id=str(uuid4()), sku=sku, quantity=7, reference="test", issued_at=datetime.now(UTC)
    )
    wrong = Letter("payment", codec.encode(command), command.command_id, "ReceiveStock", {})
    await send_commands(system.env["FULCRUM_RABBITMQ_URL"], system.namespace, [wrong])
    parked = await _parked(client, command.command_id)
    assert "no command of service payment" in parked["error"]

    right = Letter("inventory", wrong.body, wrong.message_id, wrong.type, {})
    await send_commands(system.env["FULCRUM_RABBITMQ_URL"], system.namespace, [right, right])

    async def there() -> bool:
        return (await client.call("GET", f"/v1/stock/{sku}")).status == 200

    await until(there, "the stock is there")
    replayed = system.cli("parked", "replay", parked["id"], "--reason", "it is parked again")

    assert replayed.returncode == 0, replayed.stderr
    assert (await client.stock(sku))["received"] == 7


async def test_a_command_that_fails_for_a_while_is_retried(system: System, client: Client) -> None:
    """The provider fails twice: the command comes back by itself and the workflow completes."""
    shelf = await client.stocked(1)
    posted = await client.post_all([completes("pay_flaky_2")], shelf)

    await assert_all_ended(client, posted, system.psp, _WITHIN)
    await assert_stock(client, shelf, posted)


async def _parked(client: Client, message_id: str) -> dict[str, Any]:
    """The parked message with that id, once it is there."""

    async def find() -> dict[str, Any] | None:
        rows = await client.pages("/v1/parked?limit=200")
        return next((row for row in rows if row["message_id"] == message_id), None)

    return await until(find, f"message {message_id} is parked")
