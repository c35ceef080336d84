"""Over HTTP: what a workflow waits for, and the list of those that do not move."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
from decisions import decision
from eventually import eventually_async
from intake import Api, running_intake
from stuck import IMPATIENT, Watched, new_id, overdue, running, watched

from fulcrum.commands.attempts import AttemptLog, attempt_row
from fulcrum.commands.delivery import ATTEMPT
from fulcrum.commands.retry import Kind
from fulcrum.errors import Unavailable
from fulcrum.settings import Settings
from fulcrum.store.relations import PARKED_MESSAGES
from fulcrum.web.answers import WaitingOn, WorkflowWhy
from fulcrum.web.attention import AttentionItem

pytestmark = pytest.mark.asyncio(loop_scope="module")

_WITHIN = 20.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def looking(settings: Settings) -> AsyncIterator[Settings]:
    """Settings of an intake that looks all the time."""
    yield settings.model_copy(update={**IMPATIENT, "stuck_interval": 0.2})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(looking: Settings) -> AsyncIterator[Watched]:
    """The database of that intake, empty at first."""
    async with watched(looking) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stuck_api(looking: Settings, seen: Watched) -> AsyncIterator[Api]:
    """That intake."""
    async with running_intake(looking) as running_api:
        yield running_api


async def why(api: Api, workflow_id: str) -> WorkflowWhy:
    """What the API says that the workflow waits for; alone and with the workflow it is the same."""
    alone = WorkflowWhy.model_validate((await api.get(f"/v1/workflows/{workflow_id}/why")).body)
    whole = (await api.get(f"/v1/workflows/{workflow_id}")).body
    assert WaitingOn.model_validate(whole["waiting_on"]) == WaitingOn(
        **alone.model_dump(exclude={"workflow_id", "status", "version"})
    )
    return alone


async def test_a_workflow_says_what_it_waits_for(stuck_api: Api, seen: Watched) -> None:
    """The event, the step, the command, and what the deadline will bring."""
    workflow_id = new_id()
    await seen.brought(running(workflow_id))
    told = await why(stuck_api, workflow_id)
    assert told.sentence.startswith("waiting on StockReserved; answer due ")
    assert (told.status, told.step, told.command) == ("running", "reserve_stock", "ReserveStock")
    assert told.next == "ReserveStock is sent again"
    assert told.due is not None
    assert told.due > datetime.now(UTC)


async def test_a_failed_attempt_and_those_who_wait_for_the_same_are_told(
    stuck_api: Api, seen: Watched
) -> None:
    """The number of the next try and of all, the error, and the others."""
    workflow_id = new_id()
    await seen.brought(running(workflow_id))
    log = AttemptLog(seen.db, "inventory")
    row = attempt_row(
        {ATTEMPT: "2"},
        command_id=str(uuid4()),
        workflow_id=workflow_id,
        service="inventory",
        type="ReserveStock",
        step="reserve_stock",
        worker="inventory-0",
        outcome="retried",
        started_at=datetime.now(UTC) - timedelta(seconds=1),
        error=Unavailable("HTTP 503"),
        kind=Kind.TRANSIENT,
        due_in=600,
    )
    await log.keep([row])
    await log.close()
    for _ in range(2):
        await enter(seen, new_id())
    told = await why(stuck_api, workflow_id)
    number = row["attempt"] + 1
    assert f"attempt {number} of 7 due " in told.sentence
    assert told.sentence.endswith("last error HTTP 503; 2 others wait for the same")
    assert (told.next, told.others) == (f"attempt {number} of ReserveStock", 2)


async def enter(seen: Watched, workflow_id: str) -> None:
    """Another workflow whose stock is asked for."""
    from fulcrum.commands import accounts

    await accounts.enter_published(seen.db, str(uuid4()), "inventory", "ReserveStock", workflow_id)


async def test_a_parked_message_is_told(stuck_api: Api, seen: Watched) -> None:
    """That, and not the deadline, is what a person can do something about."""
    workflow_id = new_id()
    await seen.brought(running(workflow_id))
    parked = {
        "id": str(uuid4()),
        "service": "inventory",
        "message_id": str(uuid4()),
        "type": "ReserveStock",
        "workflow_id": workflow_id,
        "queue": "q",
        "reason": "exhausted",
        "error_class": "KeyError",
        "error": "no row",
        "fingerprint": "f1",
        "attempts": 7,
        "headers": {},
        "body": b"",
    }
    await seen.db.execute(PARKED_MESSAGES.insert().values(parked))
    assert "ReserveStock is parked (exhausted): no row" in (await why(stuck_api, workflow_id)).sentence


async def test_a_request_that_nobody_has_decided_is_told(stuck_api: Api) -> None:
    """Stored by intake, and read by no orchestrator."""
    workflow_id = await stuck_api.accept()
    before = await why(stuck_api, workflow_id)
    assert (before.status, before.sentence) == ("accepted", "accepted; waiting for its first decision")
    body = {"reason": "stop"}
    asked = await stuck_api.post(f"/v1/workflows/{workflow_id}/pause", body, str(uuid4()), {"X-Actor": "ana"})
    assert asked.status == 202, asked.text
    told = await why(stuck_api, workflow_id)
    assert told.sentence.endswith("; pause asked by ana is not decided yet")


async def test_a_finished_workflow_waits_for_nothing(stuck_api: Api, seen: Watched) -> None:
    """The object is null, and the sentence says the end."""
    workflow_id = new_id()
    await seen.brought(decision(3, workflow_id=workflow_id))
    assert (await stuck_api.get(f"/v1/workflows/{workflow_id}")).body["waiting_on"] is None
    told = (await stuck_api.get(f"/v1/workflows/{workflow_id}/why")).body
    assert (told["sentence"], told["waits_for"]) == ("completed; nothing is awaited", None)


async def test_an_unknown_workflow_is_not_found(stuck_api: Api) -> None:
    """As everywhere."""
    assert (await stuck_api.get(f"/v1/workflows/{new_id()}/why")).status == 404


# --- the list ----------------------------------------------------------------------------------------


async def test_intake_lists_what_does_not_move_and_forgets_it(stuck_api: Api, seen: Watched) -> None:
    """Page by page, the longest-standing first; once the workflows move, nothing is left."""
    ids = [new_id() for _ in range(3)]
    await seen.brought(*(overdue(workflow_id) for workflow_id in ids))

    async def listed() -> list[AttentionItem]:
        items: list[AttentionItem] = []
        cursor = ""
        while True:
            page = (await stuck_api.get(f"/v1/attention?rule=past_deadline&limit=2{cursor}")).body
            items += [AttentionItem.model_validate(item) for item in page["items"]]
            if page["next_cursor"] is None:
                return items
            cursor = f"&cursor={page['next_cursor']}"

    async def all_there() -> list[AttentionItem]:
        items = await listed()
        return items if {item.workflow_id for item in items} >= set(ids) else []

    items = await eventually_async(all_there, within=_WITHIN, state=seen.found)
    assert len({item.workflow_id for item in items}) == len(items)
    assert [item.since for item in items] == sorted(item.since for item in items)
    assert 'fulcrum_workflows_stuck{rule="past_deadline"}' in (await stuck_api.get("/metrics")).text
    await seen.brought(*(running(workflow_id, 2) for workflow_id in ids))

    async def none_there() -> bool:
        return not {item.workflow_id for item in await listed()} & set(ids)

    await eventually_async(none_there, within=_WITHIN, state=seen.found)


@pytest.mark.parametrize(
    ("query", "parameter"), [("rule=tired", "rule"), ("cursor=bm9uZQ", "cursor"), ("limit=0", "limit")]
)
async def test_what_cannot_be_asked_for_is_refused(stuck_api: Api, query: str, parameter: str) -> None:
    """The problem names the parameter."""
    refused = await stuck_api.get(f"/v1/attention?{query}")
    assert (refused.status, refused.body["errors"][0]["parameter"]) == (400, parameter), refused.text
