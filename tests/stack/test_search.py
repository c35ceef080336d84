"""Search: any id leads to its workflow, and says what it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from decisions import NOON, decision, history
from intake import Api
from sqlalchemy import text

from fulcrum.readmodel import search, store
from fulcrum.saga import identity
from fulcrum.saga.messages import DecisionMade, IssuedCommand, Line
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.store.statements import compiled

pytestmark = pytest.mark.asyncio(loop_scope="module")


def command(command_id: str) -> IssuedCommand:
    """A command with that id."""
    return IssuedCommand(
        command_id=command_id,
        type="ReserveStock",
        service="inventory",
        step="reserve_stock",
        attempt=1,
        deadline_at=None,
        body=b"",
    )


async def apply(db: Database, told: list[DecisionMade]) -> None:
    """Write ``told`` as the projector does."""
    async with db.transaction() as tx:
        await store.apply(tx, told)


async def find(api: Api, q: str) -> list[tuple[str, str, int | None]]:
    """What is found: kind, workflow and transition."""
    seen = await api.get(f"/v1/search?q={q}")
    assert seen.status == 200, seen.text
    assert seen.body["q"] == q
    return [(each["what"], each["workflow"]["workflow_id"], each["version"]) for each in seen.body["items"]]


async def test_every_id_leads_to_its_workflow(api: Api, db: Database) -> None:
    """Each says what it is; that of a message also which transition names it."""
    intent, event, first, second = (str(uuid4()) for _ in range(4))
    workflow = identity.workflow_id(intent)
    names = {"correlation_id": f"order-{uuid4()}", "customer_ref": f"customer-{uuid4()}"}
    told = history(workflow, intent_id=intent, lines=(Line(f"sku-{workflow}", 1),), **names)
    told[1] = replace(
        told[1], cause=replace(told[1].cause, event_id=event), commands=(command(first), command(second))
    )
    await apply(db, [*told, *history()])
    assert await find(api, workflow) == [("workflow_id", workflow, None)]
    assert await find(api, intent) == [("intent_id", workflow, None)]
    assert await find(api, event) == [("event_id", workflow, 2)]
    assert await find(api, first) == [("command_id", workflow, 2)]
    assert await find(api, second) == [("command_id", workflow, 2)]
    assert await find(api, f"sku-{workflow}") == [("sku", workflow, None)]
    for what, name in names.items():
        assert await find(api, name) == [(what, workflow, None)]
    assert await find(api, workflow.upper()) == [("workflow_id", workflow, None)]


async def test_unknown_id_finds_nothing(api: Api) -> None:
    """An id that nobody has is no error."""
    seen = await api.get(f"/v1/search?q={uuid4()}")
    assert (seen.status, seen.body["items"], seen.body["more"]) == (200, [], False)
    assert seen.body["freshness"]["source"] == "database"


async def test_accepted_intent_is_found_at_once(api: Api) -> None:
    """Before its first decision, by both of its ids."""
    workflow = await api.accept()
    seen = (await api.get(f"/v1/search?q={workflow}")).body
    assert [(each["what"], each["workflow"]["status"]) for each in seen["items"]] == [
        ("workflow_id", "accepted")
    ]
    assert seen["freshness"]["source"] == "intake"
    intent = seen["items"][0]["workflow"]["intent_id"]
    assert await find(api, intent) == [("intent_id", workflow, None)]


async def test_sku_of_many_shows_the_newest(api: Api, db: Database) -> None:
    """The newest 50, newest first, and that there are more; an order with two such lines counts once."""
    sku = f"sku-{uuid4()}"
    told = [
        decision(
            1,
            workflow_id=str(uuid4()),
            lines=(Line(sku, 1), Line(sku, 2)),
            started_at=NOON + timedelta(seconds=number),
        )
        for number in range(60)
    ]
    await apply(db, told)
    seen = (await api.get(f"/v1/search?q={sku}")).body
    newest = [made.workflow_id for made in reversed(told)][:50]
    assert [each["workflow"]["workflow_id"] for each in seen["items"]] == newest
    assert seen["more"] is True


async def test_keys_are_written_once_and_with_the_first_decision_that_comes(db: Database) -> None:
    """In whatever order decisions come and however often, a workflow has each key once."""
    told = history(correlation_id=f"order-{uuid4()}")
    for batch in (told[2:], told[:1], told, told[1:]):
        await apply(db, batch)
    keys = await db.all(
        text("SELECT kind, key FROM read_model.run_keys WHERE workflow_id = :id ORDER BY 1, 2"),
        {"id": told[0].workflow_id},
    )
    assert [(row["kind"], row["key"]) for row in keys] == [
        ("correlation_id", told[0].correlation_id),
        ("customer_ref", "customer-7"),
        ("sku", "cup"),
        ("sku", "tea-01"),
    ]


async def test_every_search_uses_its_index(settings: Settings, db: Database) -> None:
    """On a filled read model no relation is scanned."""
    told = [
        replace(made, commands=(command(str(uuid4())),), cause=replace(made.cause, event_id=str(uuid4())))
        for _ in range(4000)
        for made in history(correlation_id=str(uuid4()), customer_ref=str(uuid4()))[:1]
    ]
    await apply(db, told)
    for name in ("workflow_runs", "timeline", "run_keys"):
        await db.execute(text(f"ANALYZE read_model.{name}"))
    asked: list[tuple[Any, dict[str, Any], tuple[str, ...]]] = [
        (search._by_key(5), {"text": "order-1"}, ("run_keys_pkey",)),
        (
            search._BY_MESSAGE,
            {"text": str(uuid4()), "limit": 5},
            ("timeline_event", "timeline_command", "timeline_commands"),
        ),
        (
            search._BY_WORKFLOW,
            {"workflow_id": str(uuid4()), "of_intent": str(uuid4())},
            ("workflow_runs_pkey",),
        ),
    ]
    connection = psycopg2.connect(settings.postgres_dsn)
    with connection, connection.cursor() as cursor:
        for statement, given, indexes in asked:
            sql, bound = compiled(statement, given)
            cursor.execute(f"EXPLAIN {sql}", bound)
            seen = "\n".join(row[0] for row in cursor.fetchall())
            assert "Seq Scan" not in seen, seen
            assert all(name in seen for name in indexes), seen
    connection.close()
