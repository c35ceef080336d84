"""Parked messages over HTTP: seen as they came, sent again under their own id, or given up with a reason."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from commandbus import headers_of, reserve
from eventually import eventually_async
from intake import Api, running_intake
from link import linked
from sqlalchemy import insert

from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.store.relations import PARKED_MESSAGES
from fulcrum.web import parked_answers as answers
from fulcrum.wire.codec import open_codec

pytestmark = pytest.mark.asyncio(loop_scope="module")

PARKED_AT = datetime(2026, 3, 1, tzinfo=UTC)
OPERATOR = {"actor": "ana", "reason": "the provider is back"}


async def park(settings: Settings, **changes: Any) -> str:
    """Put a message among the parked ones, as a parker does; returns its id."""
    row = {
        "id": str(uuid4()),
        "parked_at": PARKED_AT,
        "service": "inventory",
        "message_id": str(uuid4()),
        "type": "ReserveStock",
        "workflow_id": str(uuid4()),
        "queue": f"{settings.namespace}.commands.inventory",
        "reason": "corrupt",
        "error_class": "Corrupt",
        "error": "quantity is -1",
        "fingerprint": "f1",
        "attempts": 3,
        "headers": {"ce_type": "ReserveStock", "fulcrum-attempt": "3", "fulcrum-error": "quantity is -1"},
        "body": b"\x00\xffbytes",
        "decoded": {"quantity": -1},
        **changes,
    }
    db = await Database.open(settings.postgres_dsn, size=1)
    await db.execute(insert(PARKED_MESSAGES).values(row))
    await db.close()
    return str(row["id"])


async def on_queue(settings: Settings, message_id: str) -> list[aio_pika.abc.AbstractIncomingMessage]:
    """Take what lies on inventory's queue under ``message_id``."""
    async with await aio_pika.connect(settings.rabbitmq_url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(f"{settings.namespace}.commands.inventory")
        found = []
        while message := await queue.get(fail=False, no_ack=True):
            found.append(message)
        return [message for message in found if message.message_id == message_id]


async def test_parked_message_is_shown_with_all_that_is_kept(api: Api, settings: Settings) -> None:
    """Bytes as they came, what they say, headers, error and cause."""
    parked_id = await park(settings)
    shown = (await api.get(f"/v1/parked/{parked_id}")).body
    assert set(shown) == set(answers.ParkedMessage.model_fields)
    assert base64.b64decode(shown["body"]) == b"\x00\xffbytes"
    assert shown["decoded"] == {"quantity": -1}
    assert shown["headers"]["ce_type"] == "ReserveStock"
    assert (shown["status"], shown["error"], shown["attempts"]) == ("parked", "quantity is -1", 3)


async def test_message_that_cannot_be_read_is_shown(api: Api, settings: Settings) -> None:
    """Undecodable bytes without a workflow are listed and shown like any other."""
    parked_id = await park(settings, workflow_id=None, decoded=None, type="unknown")
    shown = (await api.get(f"/v1/parked/{parked_id}")).body
    assert (shown["decoded"], shown["workflow_id"]) == (None, None)


async def test_list_pages_newest_first_by_status(api: Api, settings: Settings) -> None:
    """Every message of the status once, newest first, without bodies."""
    later = PARKED_AT + timedelta(days=1)
    told = [
        await park(settings, parked_at=later + timedelta(seconds=n // 2), status="replayed") for n in range(5)
    ]
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = (await api.get(f"/v1/parked?status=replayed&limit=2{cursor}")).body
        found += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    ours = [row for row in found if row["id"] in told]
    assert sorted(row["id"] for row in ours) == sorted(told)
    assert [row["parked_at"] for row in ours] == sorted((row["parked_at"] for row in ours), reverse=True)
    assert set(ours[0]) == set(answers.ParkedSummary.model_fields)


async def test_replay_sends_the_message_under_its_own_id(api: Api, settings: Settings) -> None:
    """The same bytes and id, without the traces of its failures; who did it and why is kept."""
    message_id = str(uuid4())
    parked_id = await park(settings, message_id=message_id)
    seen = await api.post(f"/v1/parked/{parked_id}/replay", OPERATOR)
    assert (seen.status, seen.body["status"]) == (200, "replayed")
    assert (seen.body["actor"], seen.body["note"]) == ("ana", "the provider is back")
    (message,) = await on_queue(settings, message_id)
    assert message.body == b"\x00\xffbytes"
    assert message.type == "ReserveStock"
    assert "fulcrum-attempt" not in message.headers
    assert message.headers["ce_type"] == "ReserveStock"


async def test_message_is_replayed_once(api: Api, settings: Settings) -> None:
    """A second replay or a discard afterwards is a conflict that says who was first."""
    message_id = str(uuid4())
    parked_id = await park(settings, message_id=message_id)
    assert (await api.post(f"/v1/parked/{parked_id}/replay", OPERATOR)).status == 200
    for act in ("replay", "discard"):
        seen = await api.post(f"/v1/parked/{parked_id}/{act}", OPERATOR)
        assert (seen.status, seen.body["code"]) == (409, "conflict")
        assert "ana" in seen.body["detail"]
    assert len(await on_queue(settings, message_id)) == 1


async def test_discard_keeps_the_message_and_the_reason(api: Api, settings: Settings) -> None:
    """A discarded message is not sent, and stays in the list with who gave it up and why."""
    message_id = str(uuid4())
    parked_id = await park(settings, message_id=message_id)
    seen = await api.post(f"/v1/parked/{parked_id}/discard", OPERATOR)
    assert (seen.status, seen.body["status"]) == (200, "discarded")
    listed = (await api.get("/v1/parked?status=discarded&limit=200")).body["items"]
    assert parked_id in [row["id"] for row in listed]
    assert await on_queue(settings, message_id) == []


@pytest.mark.parametrize("act", ["replay", "discard"])
@pytest.mark.parametrize("body", [{}, {"actor": "ana"}, {"reason": "x"}, {"actor": " ", "reason": "x"}])
async def test_act_without_actor_or_reason_is_refused(
    api: Api, settings: Settings, act: str, body: dict[str, str]
) -> None:
    """Nobody acts anonymously or for no reason."""
    parked_id = await park(settings)
    seen = await api.post(f"/v1/parked/{parked_id}/{act}", body)
    assert (seen.status, seen.body["code"]) == (422, "invalid-body")
    assert (await api.get(f"/v1/parked/{parked_id}")).body["status"] == "parked"


@pytest.mark.parametrize("act", ["replay", "discard"])
async def test_unknown_message_is_not_found(api: Api, act: str) -> None:
    """404 for an id that nobody has."""
    seen = await api.post(f"/v1/parked/{uuid4()}/{act}", OPERATOR)
    assert (seen.status, seen.body["code"]) == (404, "not-found")


async def test_replay_without_rabbitmq_can_be_repeated(settings: Settings) -> None:
    """503 while RabbitMQ is away; the same request succeeds once it is back, and one message is sent."""
    message_id = str(uuid4())
    parked_id = await park(settings, message_id=message_id)
    async with (
        linked(settings.rabbitmq_url) as (link, url),
        running_intake(settings.model_copy(update={"rabbitmq_url": url})) as api,
    ):
        await link.cut()
        seen = await api.post(f"/v1/parked/{parked_id}/replay", OPERATOR)
        assert (seen.status, seen.body["code"]) == (503, "unavailable")
        assert (await api.get(f"/v1/parked/{parked_id}")).body["status"] == "replaying"
        await link.mend()

        async def replayed() -> bool:
            return (await api.post(f"/v1/parked/{parked_id}/replay", OPERATOR)).status in (200, 409)

        await eventually_async(replayed, within=15)
        assert (await api.get(f"/v1/parked/{parked_id}")).body["status"] == "replayed"
        assert len(await on_queue(settings, message_id)) == 1


async def test_discarded_message_is_restored(api: Api, settings: Settings) -> None:
    """What was given up waits again; what waits cannot be restored."""
    parked_id = await park(settings)
    seen = await api.post(f"/v1/parked/{parked_id}/restore", OPERATOR)
    assert (seen.status, seen.body["code"]) == (409, "conflict")
    await api.post(f"/v1/parked/{parked_id}/discard", OPERATOR)
    seen = await api.post(f"/v1/parked/{parked_id}/restore", OPERATOR)
    assert (seen.status, seen.body["status"]) == (200, "parked")


async def test_editing_is_off_by_default(api: Api, settings: Settings) -> None:
    """403 that names the setting; nothing is sent."""
    parked_id = await park(settings)
    patch = {"patch": [{"op": "remove", "path": "/lines"}]}
    seen = await api.post(f"/v1/parked/{parked_id}/edit", {**OPERATOR, **patch})
    assert (seen.status, seen.body["code"]) == (403, "switched-off")
    assert "FULCRUM_PARKED_EDIT" in seen.body["detail"]


async def test_edited_message_is_checked_and_sent_under_a_new_id(settings: Settings) -> None:
    """A patch that the schema refuses is told at once; a good one is sent, and both messages are linked."""
    codec = await open_codec(settings)
    command = reserve("tea")
    parked_id = await park(
        settings, message_id=command.command_id, body=codec.encode(command), headers=headers_of(command)
    )
    async with running_intake(settings.model_copy(update={"parked_edit": True})) as api:
        address = f"/v1/parked/{parked_id}/edit"
        for step, told in (
            ({"op": "replace", "path": "/lines/0/quantity", "value": 1.5}, "/lines/0/quantity is 1.5"),
            ({"op": "replace", "path": "/command_id", "value": "x"}, "command_id is given by Fulcrum"),
            ({"op": "add", "path": "/colour", "value": "red"}, "/colour is unknown"),
            ({"op": "remove", "path": "/lines/7"}, "does not fit"),
        ):
            seen = await api.post(address, {**OPERATOR, "patch": [step]})
            assert (seen.status, seen.body["code"]) == (422, "invalid-body")
            assert told in seen.body["detail"]
        step = {"op": "replace", "path": "/lines/0/quantity", "value": 2}
        seen = await api.post(address, {**OPERATOR, "patch": [step]})
        assert (seen.status, seen.body["status"]) == (200, "edited"), seen.text
        new = (await api.get(f"/v1/parked/{seen.body['edited_as']}")).body
    assert (new["edited_from"], new["decoded"]["lines"]) == (parked_id, [{"sku": "tea", "quantity": 2}])
    (message,) = await on_queue(settings, new["message_id"])
    assert message.headers["fulcrum-edited-from"] == command.command_id


async def test_groups_are_shown_with_their_note(api: Api, settings: Settings) -> None:
    """A cause with its counts, and what somebody knows about it."""
    group = uuid4().hex[:12]
    await park(settings, fingerprint=group)
    await park(settings, fingerprint=group, parked_at=datetime.now(UTC) - timedelta(hours=2))
    said = {"actor": "ana", "note": "stock is being counted", "owner": "ben"}
    seen = await api.post(f"/v1/parked-groups/{group}/note", said)
    assert (seen.status, seen.body["waiting"]) == (200, 2)
    listed = (await api.get("/v1/parked-groups?service=inventory&limit=200")).body["items"]
    (shown,) = [row for row in listed if row["fingerprint"] == group]
    assert (shown["note"], shown["owner"], shown["noted_by"]) == ("stock is being counted", "ben", "ana")
    assert (shown["last_hour"], shown["last_day"], shown["last_week"]) == (0, 1, 1)
    assert (await api.post("/v1/parked-groups/abcdef/note", said)).status == 404


async def test_group_is_planned_replayed_and_accounted_for(api: Api, settings: Settings) -> None:
    """A dry run stores nothing; the operation ends with one outcome a message; a key is good for one."""
    group = uuid4().hex[:12]
    ids = [await park(settings, fingerprint=group) for _ in range(3)]
    await api.post(f"/v1/parked/{ids[0]}/discard", OPERATOR)
    asked = {"kind": "replay", "selection": {"ids": ids}, **OPERATOR}
    plan = await api.post("/v1/operations", {**asked, "dry_run": True})
    assert (plan.status, plan.body["matched"], plan.body["total"]) == (200, 3, 2)
    assert plan.body["excluded"] == {"already discarded": 1}
    key = str(uuid4())
    made = await api.post("/v1/operations", asked, key)
    assert made.status == 202, made.text
    address = made.headers["Location"]
    again = await api.post("/v1/operations", asked, key)
    assert (again.body["id"], again.headers["Idempotency-Replayed"]) == (made.body["id"], "true")
    other = await api.post("/v1/operations", {**asked, "kind": "discard"}, key)
    assert (other.status, other.body["code"]) == (409, "key-reused")

    async def ended() -> bool:
        return bool((await api.get(address)).body["state"] == "done")

    await eventually_async(ended, within=15, state=lambda: api.get(address))
    shown = (await api.get(address)).body
    assert (shown["total"], shown["succeeded"], shown["pending"]) == (2, 2, 0)
    items = (await api.get(f"{address}/items")).body["items"]
    assert [(item["state"], item["outcome"]) for item in items] == [("succeeded", "sent")] * 2
    assert [row["id"] for row in (await api.get(f"/v1/parked?group={group}&status=replayed")).body["items"]]
    assert shown["id"] in [row["id"] for row in (await api.get("/v1/operations?state=done")).body["items"]]
    nothing = await api.post("/v1/operations", {**asked, "selection": {"group": group}})
    assert (nothing.status, nothing.body["code"]) == (409, "conflict")


async def test_operation_is_paused_resumed_and_aborted(api: Api, settings: Settings) -> None:
    """At a slow pace it is held up, let go on, and ended; what it has not begun stays parked."""
    group = uuid4().hex[:12]
    for _ in range(3):
        await park(settings, fingerprint=group)
    asked = {"kind": "replay", "selection": {"group": group}, "rate": 0.01, **OPERATOR}
    address = (await api.post("/v1/operations", asked)).headers["Location"]
    for act, state in (("pause", "paused"), ("resume", "running"), ("abort", "aborted")):
        seen = await api.post(f"{address}/{act}", OPERATOR)
        assert (seen.status, seen.body["state"]) == (200, state)
    acts = [entry["act"] for entry in (await api.get(address)).body["history"]]
    assert acts == ["create", "pause", "resume", "abort"]
    assert (await api.post(f"{address}/resume", OPERATOR)).status == 409
    assert (await api.post(f"/v1/operations/{uuid4()}/abort", OPERATOR)).status == 404
    assert (await api.get(f"/v1/parked?group={group}&status=parked")).body["items"]
