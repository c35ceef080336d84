"""Operators' requests: each leaves behind the intent, in order and once; the answer is what was decided."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from decisions import history
from intake import Api, Seen, records_of, sent
from orchestrated import arrived, authorized, project, reserved, told
from sqlalchemy import func, select

from fulcrum.saga import identity
from fulcrum.saga.messages import CancelRequested, IntentCreated, OperatorRequested
from fulcrum.saga.verbs import Verb
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.web import waiting
from fulcrum.web.relations import intents, requests
from fulcrum.wire.codec import Codec, open_codec

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHY = {"reason": "because"}
BODIES: dict[Verb, dict[str, Any]] = dict.fromkeys(Verb, WHY) | {Verb.EXTEND: {**WHY, "seconds": 600}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def codec(settings: Settings) -> Codec:
    """Reads what intake sends."""
    return await open_codec(settings, (IntentCreated, CancelRequested, OperatorRequested))


@pytest.fixture
def nobody_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request does not wait for a decision that cannot come."""
    monkeypatch.setattr(waiting, "WAIT_MOST", 0.05)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request waits for as long as the test needs to decide."""
    monkeypatch.setattr(waiting, "WAIT_MOST", 20.0)


def path(workflow_id: str, verb: str) -> str:
    """Where a verb is asked for."""
    return f"/v1/workflows/{workflow_id}/{verb}"


def asking(api: Api, workflow_id: str, verb: str, body: object, **headers: str) -> asyncio.Task[Seen]:
    """A request that waits for its decision."""
    return asyncio.create_task(api.post(path(workflow_id, verb), body, str(uuid4()), headers))


async def kept(db: Database, workflow_id: str) -> tuple[int, int]:
    """How many requests are stored, and the last number of the workflow's stream."""
    count = select(func.count().label("n")).where(requests.c.workflow_id == workflow_id)
    last = select(intents.c.last_sequence.label("n")).where(intents.c.workflow_id == workflow_id)
    rows = [await db.one(count), await db.one(last)]
    assert rows[0] is not None
    assert rows[1] is not None
    return rows[0]["n"], rows[1]["n"]


@pytest.mark.usefixtures("patient")
async def test_answer_is_what_was_decided(api: Api, db: Database, codec: Codec, settings: Settings) -> None:
    """A pause: 200 with the new status, and the timeline says what, who and why."""
    workflow_id = await api.accept()
    request = asking(api, workflow_id, "pause", WHY, **{"X-Actor": "ana", "X-Correlation-Id": "call-7"})
    events = await arrived(settings, codec, workflow_id, 2)
    event = events[1]
    assert isinstance(event, OperatorRequested)
    assert (event.verb, event.actor, event.reason, event.sequence) == ("pause", "ana", "because", 2)
    (record,) = (await asyncio.to_thread(records_of, settings, workflow_id))[1:]
    assert dict(record.headers())["fulcrum-correlation-id"] == b"call-7"
    await project(db, told(events))
    seen = await request
    assert seen.status == 200, seen.text
    assert seen.body == {
        "workflow_id": workflow_id,
        "request_id": event.event_id,
        "verb": "pause",
        "dry_run": False,
        "decided": True,
        "outcome": "accepted",
        "refused": None,
        "version": 2,
        "status_before": "running",
        "status": "paused",
        "step": None,
        "commands": [],
        "held": [],
        "standing": ["authorize_payment"],
    }
    shown = (await api.get(seen.headers["Location"])).body
    assert shown["status"] == "paused"
    cause = shown["timeline"][-1]["cause"]
    assert (cause["verb"], cause["actor"], cause["reason"]) == ("pause", "ana", "because")
    listed = (await api.get("/v1/workflows?status=paused")).body["items"]
    assert workflow_id in [item["workflow_id"] for item in listed]


@pytest.mark.usefixtures("patient")
async def test_skip_carries_its_result_to_the_journal(
    api: Api, db: Database, codec: Codec, settings: Settings
) -> None:
    """The run goes on with the next step, and its step shows who skipped it and what they gave."""
    workflow_id = await api.accept()
    body = {**WHY, "step": "authorize_payment", "result": {"authorization_id": "till-1"}}
    request = asking(api, workflow_id, "skip", body, **{"X-Actor": "ana"})
    await project(db, told(await arrived(settings, codec, workflow_id, 2)))
    seen = await request
    assert (seen.status, seen.body["outcome"], seen.body["step"]) == (200, "accepted", "reserve_stock")
    assert [command["type"] for command in seen.body["commands"]] == ["ReserveStock"]
    (step, _) = (await api.get(seen.headers["Location"])).body["steps"]
    assert (step["status"], step["skipped_by"]) == ("skipped", "ana")
    assert step["result"] == '{"authorization_id":"till-1"}'


@pytest.mark.usefixtures("patient")
async def test_refusal_is_an_observed_result(
    api: Api, db: Database, codec: Codec, settings: Settings
) -> None:
    """The orchestrator's reason, while the workflow goes on as it was."""
    workflow_id = await api.accept()
    request = asking(api, workflow_id, "resume", WHY)
    await project(db, told(await arrived(settings, codec, workflow_id, 2)))
    seen = await request
    assert (seen.status, seen.body["outcome"], seen.body["refused"]) == (200, "refused", "not_paused")
    assert seen.body["status"] == "running"


@pytest.mark.usefixtures("patient")
async def test_completion_that_wins_the_race_is_told(
    api: Api, db: Database, codec: Codec, settings: Settings
) -> None:
    """The read model said running; what counts is what the orchestrator made of it."""
    workflow_id = await api.accept()
    await project(db, told(await arrived(settings, codec, workflow_id, 1)))
    request = asking(api, workflow_id, "terminate", WHY)
    events = await arrived(settings, codec, workflow_id, 2)
    await project(db, told(events, (authorized, reserved)))
    seen = await request
    assert (seen.status, seen.body["refused"], seen.body["status"]) == (200, "already_final", "completed")


@pytest.mark.usefixtures("patient")
async def test_termination_shows_what_it_leaves_standing(
    api: Api, db: Database, codec: Codec, settings: Settings
) -> None:
    """In the answer and with each step of the workflow."""
    workflow_id = await api.accept()
    await project(db, told(await arrived(settings, codec, workflow_id, 1), (authorized,)))
    request = asking(api, workflow_id, "terminate", WHY)
    await project(db, told(await arrived(settings, codec, workflow_id, 2), (authorized,)))
    seen = await request
    assert (seen.body["status"], seen.body["commands"]) == ("terminated", [])
    assert seen.body["standing"] == ["authorize_payment", "reserve_stock"]
    shown = (await api.get(seen.headers["Location"])).body
    assert (shown["status"], shown["reason"]) == ("terminated", "terminated: because")
    assert [step["left_standing"] for step in shown["steps"]] == [True, True]
    cancel = await api.post(path(workflow_id, "cancel"), WHY)
    assert (cancel.status, cancel.body["code"]) == (409, "already-terminated")


@pytest.mark.usefixtures("nobody_decides")
@pytest.mark.parametrize("verb", list(Verb))
async def test_undecided_request_is_stored_and_says_so(api: Api, db: Database, verb: Verb) -> None:
    """Without a decision in time: 202, no outcome, and the same key tells later what came of it."""
    workflow_id = await api.accept()
    seen = await api.post(path(workflow_id, verb), BODIES[verb], "k")
    assert (seen.status, seen.body["decided"], seen.body["outcome"]) == (202, False, None), seen.text
    assert seen.body["request_id"] == identity.request_id(workflow_id, "k")
    assert await kept(db, workflow_id) == (1, 2)
    again = await api.post(path(workflow_id, verb), BODIES[verb], "k")
    assert (again.body, again.headers["Idempotency-Replayed"]) == (seen.body, "true")
    assert await kept(db, workflow_id) == (1, 2)


@pytest.mark.usefixtures("nobody_decides")
async def test_requests_at_the_same_time_are_numbered_as_they_leave(
    api: Api, db: Database, codec: Codec, settings: Settings
) -> None:
    """Dense numbers in the order of Kafka, whatever is asked for, cancellations among them."""
    workflow_id = await api.accept()
    verbs = [*Verb] * 3
    answers = await asyncio.gather(
        *(api.post(path(workflow_id, verb), BODIES[verb], str(uuid4())) for verb in verbs),
        *(api.post(path(workflow_id, "cancel"), WHY, str(uuid4())) for _ in range(3)),
    )
    assert {seen.status for seen in answers} == {202}
    await sent(settings, workflow_id)
    events = await arrived(settings, codec, workflow_id, 25)
    assert [event.sequence for event in events] == list(range(1, 26))
    assert await kept(db, workflow_id) == (24, 25)


@pytest.mark.usefixtures("nobody_decides")
async def test_key_belongs_to_one_request(api: Api, db: Database) -> None:
    """With another verb, step or reason: 409, and what was asked stays."""
    workflow_id = await api.accept()
    await api.post(path(workflow_id, "retry"), WHY, "k")
    for verb, body in (
        ("pause", WHY),
        ("retry", {"reason": "another"}),
        ("retry", {**WHY, "step": "reserve_stock"}),
    ):
        seen = await api.post(path(workflow_id, verb), body, "k")
        assert (seen.status, seen.body["code"]) == (409, "key-reused"), seen.text
    assert await kept(db, workflow_id) == (1, 2)


async def test_ended_workflow_refuses_without_an_event(api: Api, db: Database) -> None:
    """Its state may be gone, so nobody is asked."""
    workflow_id = await api.accept()
    await project(db, history(workflow_id))
    seen = await api.post(path(workflow_id, "terminate"), WHY, "k")
    assert (seen.status, seen.body["outcome"], seen.body["refused"]) == (200, "refused", "already_final")
    assert (seen.body["request_id"], await kept(db, workflow_id)) == (None, (0, 1))


@pytest.mark.parametrize("verb", [*Verb, "cancel"])
async def test_dry_run_tells_what_would_follow_and_asks_for_nothing(
    api: Api, db: Database, codec: Codec, settings: Settings, verb: str
) -> None:
    """It is what the rules say to the same request."""
    workflow_id = await api.accept()
    await project(db, told(await arrived(settings, codec, workflow_id, 1)))
    body = {**BODIES.get(Verb(verb), WHY), "dry_run": True} if verb != "cancel" else {**WHY, "dry_run": True}
    seen = await api.post(path(workflow_id, verb), body, "k")
    expected = {
        "retry": ("accepted", "running", ["QueryPayment"]),
        "skip": ("accepted", "running", ["ReserveStock"]),
        "pause": ("accepted", "paused", []),
        "resume": ("refused", "running", []),
        "compensate": ("accepted", "compensating", ["VoidPayment"]),
        "extend": ("accepted", "running", []),  # the deadline is a minute away
        "terminate": ("accepted", "terminated", []),
        "cancel": ("accepted", "compensating", ["VoidPayment"]),
    }
    told_by = seen.body
    sends = [command["type"] for command in told_by["commands"]]
    outcome, status, commands = expected[verb]
    assert (seen.status, told_by["outcome"], told_by["status"], sends) == (200, outcome, status, commands)
    assert (told_by["dry_run"], told_by["decided"], told_by["request_id"]) == (True, False, None)
    assert await kept(db, workflow_id) == (0, 1)


async def test_unknown_workflow_is_not_found(api: Api) -> None:
    """Also for a dry run."""
    for body in (WHY, {**WHY, "dry_run": True}):
        seen = await api.post(path(str(uuid4()), "pause"), body, "k")
        assert (seen.status, seen.body["code"]) == (404, "not-found"), seen.text


@pytest.mark.parametrize(
    ("verb", "body", "status", "code", "named"),
    [
        ("retry", {}, 422, "invalid-body", {"pointer": "#/reason"}),
        ("retry", {**WHY, "step": "No Step"}, 422, "invalid-body", {"pointer": "#/step"}),
        ("pause", {**WHY, "step": "reserve_stock"}, 422, "invalid-body", {"pointer": "#/step"}),
        ("extend", WHY, 422, "invalid-body", {"pointer": "#/seconds"}),
        ("extend", {**WHY, "seconds": 0}, 422, "invalid-body", {"pointer": "#/seconds"}),
        ("skip", {**WHY, "result": [1]}, 422, "invalid-body", {"pointer": "#/result"}),
        ("skip", {**WHY, "result": {"colour": "red"}}, 422, "invalid-body", {"pointer": "#/result"}),
        ("skip", {**WHY, "result": {"expires_at": "soon"}}, 422, "invalid-body", {"pointer": "#/result"}),
    ],
)
async def test_bad_request_names_what_is_wrong(
    api: Api,
    db: Database,
    codec: Codec,
    settings: Settings,
    verb: str,
    body: dict[str, Any],
    status: int,
    code: str,
    named: dict[str, str],
) -> None:
    """The body is checked before anything is stored; a result is held against the step's answer."""
    workflow_id = await api.accept()
    await project(db, told(await arrived(settings, codec, workflow_id, 1)))
    seen = await api.post(path(workflow_id, verb), body, "k")
    assert (seen.status, seen.body["code"]) == (status, code), seen.text
    assert named.items() <= seen.body["errors"][0].items()
    assert await kept(db, workflow_id) == (0, 1)


async def test_request_without_a_key_is_refused(api: Api, db: Database) -> None:
    """Nobody could tell a repeat from a second request."""
    workflow_id = await api.accept()
    seen = await api.post(path(workflow_id, "retry"), WHY)
    assert (seen.status, seen.body["code"]) == (400, "idempotency-key")
    assert await kept(db, workflow_id) == (0, 1)
