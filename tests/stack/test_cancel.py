"""Cancelling: the wish leaves behind the intent, in order and once, and the answer is what was decided.

The orchestrator is played by its own rules: ``decide`` and the journal, fed with what lies in Kafka.

Long, because every moment at which somebody may cancel needs the same intake and the same rules.
"""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
import pytest_asyncio
from decisions import decision, history
from intake import Api, Seen, records_of, sent
from orchestrated import arrived, authorized, declined, project, reserved, told
from sqlalchemy import func, select

from fulcrum.saga import identity
from fulcrum.saga.messages import CancelRequested, IntentCreated
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.web import waiting
from fulcrum.web.relations import intents, requests
from fulcrum.wire.codec import Codec, open_codec

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHY = {"reason": "called off"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def codec(settings: Settings) -> Codec:
    """Reads what intake sends."""
    return await open_codec(settings, (IntentCreated, CancelRequested))


@pytest.fixture
def nobody_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request does not wait for a decision that cannot come."""
    monkeypatch.setattr(waiting, "WAIT_MOST", 0.05)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request waits for as long as the test needs to decide."""
    monkeypatch.setattr(waiting, "WAIT_MOST", 20.0)


def path(workflow_id: str) -> str:
    """Where a workflow is cancelled."""
    return f"/v1/workflows/{workflow_id}/cancel"


async def asked(db: Database, workflow_id: str) -> tuple[int, int]:
    """How many cancellations are stored, and the last number of the workflow's stream."""
    count = select(func.count().label("n")).where(requests.c.workflow_id == workflow_id)
    last = select(intents.c.last_sequence.label("n")).where(intents.c.workflow_id == workflow_id)
    rows = [await db.one(count), await db.one(last)]
    assert rows[0] is not None
    assert rows[1] is not None
    return rows[0]["n"], rows[1]["n"]


def cancelling(api: Api, workflow_id: str, **headers: str) -> asyncio.Task[Seen]:
    """A request that waits for its decision."""
    return asyncio.create_task(api.post(path(workflow_id), WHY, headers=headers))


@pytest.mark.usefixtures("patient")
async def test_cancellation_before_anything_happened(
    api: Api, db: Database, codec: Codec, settings: Settings
) -> None:
    """It leaves behind the intent; the answer is the decision; the timeline says who and why."""
    workflow_id = await api.accept()
    request = cancelling(api, workflow_id, **{"X-Actor": "ana", "X-Correlation-Id": "call-7"})
    events = await arrived(settings, codec, workflow_id, 2)
    assert [(type(e).__name__, e.sequence) for e in events] == [("IntentCreated", 1), ("CancelRequested", 2)]
    (record,) = (await asyncio.to_thread(records_of, settings, workflow_id))[1:]
    assert dict(record.headers())["fulcrum-correlation-id"] == b"call-7"
    await project(db, told(events))
    seen = await request
    assert seen.status == 202, seen.text
    assert seen.headers["Location"] == f"/v1/workflows/{workflow_id}"
    assert seen.body == {
        "workflow_id": workflow_id,
        "event_id": events[1].event_id,
        "status": "compensating",
        "version": 2,
        "reason": "cancelled: called off",
        "decided": True,
    }
    entry = (await api.get(seen.headers["Location"])).body["timeline"][-1]
    assert (entry["cause"]["type"], entry["cause"]["actor"]) == ("CancelRequested", "ana")
    assert entry["reason"] == "cancelled: called off"
    assert [command["type"] for command in entry["commands"]] == ["VoidPayment"]


@pytest.mark.usefixtures("nobody_decides")
async def test_undecided_request_is_stored_and_says_so(api: Api, db: Database) -> None:
    """Without a decision in time: 202, not decided, and the state as it is known."""
    workflow_id = await api.accept()
    seen = await api.post(path(workflow_id), WHY)
    assert (seen.status, seen.body["decided"], seen.body["status"]) == (202, False, "accepted")
    assert await asked(db, workflow_id) == (1, 2)


async def test_completed_workflow_is_refused_without_an_event(api: Api, db: Database) -> None:
    """409 with a kind of its own, and nothing was asked for."""
    workflow_id = await api.accept()
    await project(db, history(workflow_id))
    seen = await api.post(path(workflow_id), WHY)
    assert (seen.status, seen.body["code"]) == (409, "already-completed"), seen.text
    assert "2026-03-01T12:00:00" in seen.body["detail"]
    assert await asked(db, workflow_id) == (0, 1)


@pytest.mark.usefixtures("patient")
async def test_completion_that_wins_the_race_is_a_refusal(
    api: Api, db: Database, codec: Codec, settings: Settings
) -> None:
    """The read model says running, the orchestrator had completed it: the observed result counts, 409."""
    workflow_id = await api.accept()
    events = await arrived(settings, codec, workflow_id, 1)
    await project(db, told(events))
    request = cancelling(api, workflow_id)
    events = await arrived(settings, codec, workflow_id, 2)
    decisions = told(events, (authorized, reserved))
    assert decisions[-1].ignored == "already_final"
    await project(db, decisions)
    seen = await request
    assert (seen.status, seen.body["code"]) == (409, "already-completed"), seen.text


@pytest.mark.usefixtures("patient")
async def test_refusal_that_wins_the_race_is_a_success(
    api: Api, db: Database, codec: Codec, settings: Settings
) -> None:
    """Nothing of the workflow stands, which is what was asked for; the reason says what came first."""
    workflow_id = await api.accept()
    request = cancelling(api, workflow_id)
    events = await arrived(settings, codec, workflow_id, 2)
    await project(db, told(events, (declined,)))
    seen = await request
    assert (seen.status, seen.body["status"], seen.body["decided"]) == (202, "cancelled", True), seen.text
    assert seen.body["reason"] == "authorize_payment: insufficient_funds"


@pytest.mark.parametrize("status", ["compensating", "needs_attention", "cancelled"])
async def test_workflow_that_is_being_undone_is_a_success(api: Api, db: Database, status: str) -> None:
    """A repeat never turns into an error, and asks for nothing new."""
    workflow_id = await api.accept()
    undone = decision(3, workflow_id=workflow_id, status=status, reason="reserve_stock: short")
    await project(db, [*history(workflow_id)[:2], undone])
    seen = await api.post(path(workflow_id), WHY)
    assert seen.status == 202, seen.text
    assert (seen.body["status"], seen.body["event_id"], seen.body["decided"]) == (status, None, True)
    assert seen.body["reason"] == "reserve_stock: short"
    assert await asked(db, workflow_id) == (0, 1)


@pytest.mark.usefixtures("nobody_decides")
async def test_requests_at_the_same_time_are_numbered_as_they_leave(
    api: Api, db: Database, codec: Codec, settings: Settings
) -> None:
    """Thirty people at once: dense numbers, in the order of Kafka, each once."""
    workflow_id = await api.accept()
    keys = [str(uuid4()) for _ in range(30)]
    answers = await asyncio.gather(*(api.post(path(workflow_id), WHY, key) for key in keys))
    assert {seen.status for seen in answers} == {202}
    await sent(settings, workflow_id)
    events = await arrived(settings, codec, workflow_id, 31)
    assert [event.sequence for event in events] == list(range(1, 32))
    assert {event.event_id for event in events[1:]} == {
        identity.cancel_id(workflow_id, key, "acme", "called off") for key in keys
    }
    assert await asked(db, workflow_id) == (30, 31)


@pytest.mark.usefixtures("nobody_decides")
@pytest.mark.parametrize("key", ["once", None])
async def test_repeat_asks_once(
    api: Api, db: Database, codec: Codec, settings: Settings, key: str | None
) -> None:
    """One event for a key, or for one actor with one reason; the repeats say that they are repeats."""
    workflow_id = await api.accept()
    answers = await asyncio.gather(*(api.post(path(workflow_id), WHY, key) for _ in range(10)))
    assert {(seen.status, seen.text) for seen in answers} == {(202, answers[0].text)}
    assert sum("Idempotency-Replayed" not in seen.headers for seen in answers) == 1
    assert await asked(db, workflow_id) == (1, 2)
    await sent(settings, workflow_id)
    (_, event) = await arrived(settings, codec, workflow_id, 2)
    assert isinstance(event, CancelRequested)
    assert (event.actor, event.reason) == ("acme", "called off")


@pytest.mark.usefixtures("nobody_decides")
async def test_other_person_or_reason_is_another_request(api: Api, db: Database) -> None:
    """Without keys, who and why tell requests apart."""
    workflow_id = await api.accept()
    await api.post(path(workflow_id), WHY)
    await api.post(path(workflow_id), WHY, headers={"X-Actor": "ana"})
    await api.post(path(workflow_id), {"reason": "too late"}, headers={"X-Actor": "ana"})
    assert await asked(db, workflow_id) == (3, 4)


@pytest.mark.usefixtures("nobody_decides")
async def test_key_with_another_reason_is_refused(api: Api, db: Database) -> None:
    """409, and what was asked stays."""
    workflow_id = await api.accept()
    await api.post(path(workflow_id), WHY, "k")
    seen = await api.post(path(workflow_id), {"reason": "another"}, "k")
    assert (seen.status, seen.body["code"]) == (409, "key-reused")
    assert seen.body["errors"][0]["header"] == "Idempotency-Key"
    assert await asked(db, workflow_id) == (1, 2)


async def test_unknown_workflow_is_not_found(api: Api, db: Database) -> None:
    """Neither one that nobody knows, nor one that only the read model knows."""
    seen = await api.post(path(str(uuid4())), WHY)
    assert (seen.status, seen.body["code"]) == (404, "not-found")
    elsewhere = history()
    await project(db, elsewhere[:2])
    seen = await api.post(path(elsewhere[0].workflow_id), WHY)
    assert (seen.status, seen.body["code"]) == (404, "not-found"), seen.text


@pytest.mark.parametrize(
    ("body", "headers", "status", "code", "named"),
    [
        ({}, {}, 422, "invalid-body", {"pointer": "#/reason"}),
        ({"reason": ""}, {}, 422, "invalid-body", {"pointer": "#/reason"}),
        ({"reason": "x" * 501}, {}, 422, "invalid-body", {"pointer": "#/reason"}),
        ({"reason": "x", "actor": "ana"}, {}, 422, "invalid-body", {"pointer": "#/actor"}),
        (WHY, {"X-Actor": ""}, 400, "invalid-parameter", {"header": "X-Actor"}),
        (WHY, {"X-Actor": "x" * 129}, 400, "invalid-parameter", {"header": "X-Actor"}),
        (WHY, {"X-Actor": "caf\u00e9"}, 400, "invalid-parameter", {"header": "X-Actor"}),
        (WHY, {"Idempotency-Key": ""}, 400, "idempotency-key", {"header": "Idempotency-Key"}),
    ],
)
async def test_bad_request_names_what_is_wrong(
    api: Api,
    db: Database,
    body: dict[str, str],
    headers: dict[str, str],
    status: int,
    code: str,
    named: dict[str, str],
) -> None:
    """Reason, actor and key are checked before anything is stored."""
    workflow_id = await api.accept()
    seen = await api.post(path(workflow_id), body, headers=headers)
    assert (seen.status, seen.body["code"]) == (status, code), seen.text
    assert named.items() <= seen.body["errors"][0].items()
    assert await asked(db, workflow_id) == (0, 1)
