"""Lists of workflows on Postgres and behind the API: whole, each once, from an index, and in time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from decisions import NOON, decision, step
from intake import Api, running_intake
from sqlalchemy import text

from fulcrum.readmodel import store
from fulcrum.readmodel.lists import INDEXES, Filter, Position, statement
from fulcrum.saga.messages import DecisionMade, Line
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.store.statements import compiled
from fulcrum.web import answers

pytestmark = pytest.mark.asyncio(loop_scope="module")

MANY = 12_000
STATUSES = ("running", "paused", "compensating", "needs_attention", "completed", "cancelled", "terminated")
EACH: dict[str, dict[str, Any]] = {
    "status": {"statuses": frozenset({"running"})},
    "step": {"step": "reserve_stock"},
    "tenant": {"tenant": "t-3"},
    "definition": {"definition": "fulfillment.v1"},
    "sku": {"sku": "sku-3"},
}
ALLOWED = sorted(INDEXES, key=sorted)


def told(number: int) -> DecisionMade:
    """A workflow of many: seven start at each instant, of every status, five tenants, two definitions."""
    status = STATUSES[number % 11 % 7]
    asked = step(status="requested" if number % 2 else "done")
    return decision(
        1,
        workflow_id=str(uuid4()),
        status=status,
        tenant=f"t-{number % 5}",
        definition=("fulfillment.v1", "reserve_first.v1")[number % 3 % 2],
        lines=(Line(f"sku-{number % 20}", 1), Line("everywhere", 2)),
        steps=(step("authorize_payment"), asked),
        started_at=NOON - timedelta(days=3) + timedelta(seconds=number // 7),
    )


@pytest.fixture(scope="module")
def filled(settings: Settings) -> list[DecisionMade]:
    """Many workflows, as the projector writes them, and statistics about them."""
    runs = [told(number) for number in range(MANY)]

    async def fill() -> None:
        db = await Database.open(settings.postgres_dsn, size=1)
        for start in range(0, MANY, 500):
            async with db.transaction() as tx:
                await store.apply(tx, runs[start : start + 500])
        for name in ("workflow_runs", "run_keys"):
            await db.execute(text(f"ANALYZE read_model.{name}"))
        await db.close()

    asyncio.run(fill())
    return runs


def chosen(names: frozenset[str], **more: Any) -> Filter:
    """A filter by ``names``."""
    given: dict[str, Any] = {}
    for name in names:
        given |= EACH[name]
    return Filter(**given, **more)


def plan(settings: Settings, wanted: Filter, after: Position | None) -> str:
    """How Postgres means to answer the page."""
    sql, bound = compiled(statement(wanted, after, 51))
    connection = psycopg2.connect(settings.postgres_dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}", bound)
        found = "\n".join(row[0] for row in cursor.fetchall())
    connection.close()
    return found


@pytest.mark.parametrize("bounded", [False, True], ids=["", "bounded"])
@pytest.mark.parametrize("paged", [False, True], ids=["", "paged"])
@pytest.mark.parametrize("names", ALLOWED, ids=lambda names: "+".join(sorted(names)) or "all")
async def test_every_allowed_filter_is_one_range_of_its_index(
    settings: Settings, filled: list[DecisionMade], names: frozenset[str], paged: bool, bounded: bool
) -> None:
    """Nothing is read that is not shown: no scan, no filter over what an index gave."""
    start = NOON - timedelta(days=3)
    times = {"after": start, "before": start + timedelta(minutes=5)} if bounded else {}
    after = Position(start + timedelta(minutes=4), str(uuid4())) if paged else None
    wanted = chosen(names, **times)
    seen = plan(settings, wanted, after)
    assert f"{wanted.index} " in seen, seen
    assert "Seq Scan" not in seen, seen
    assert "Filter:" not in seen, seen


async def read_all(api: Api, query: str, between: Any = None) -> list[dict[str, Any]]:
    """Every page of the list."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        seen = await api.get(f"/v1/workflows?limit=7{query}{cursor}")
        assert seen.status == 200, seen.text
        found += seen.body["items"]
        if seen.body["next_cursor"] is None:
            return found
        cursor = f"&cursor={seen.body['next_cursor']}"
        if between is not None:
            await between()


def is_there(row: DecisionMade, names: frozenset[str]) -> bool:
    """Whether a filter by ``names`` shows the workflow."""
    live = row.status not in ("completed", "cancelled", "terminated")
    holds = {
        "status": row.status == "running",
        "step": live and row.steps[1].status == "requested",
        "tenant": row.tenant == "t-3",
        "definition": row.definition == "fulfillment.v1",
        "sku": any(line.sku == "sku-3" for line in row.lines),
    }
    return all(holds[name] for name in names)


@pytest.mark.parametrize("names", ALLOWED, ids=lambda names: "+".join(sorted(names)) or "all")
async def test_pages_hold_every_workflow_once(
    api: Api, db: Database, filled: list[DecisionMade], names: frozenset[str]
) -> None:
    """Newest first, each once: neither those of one instant nor those added meanwhile change that."""
    asked = {
        "status": "status=running",
        "step": "step=reserve_stock",
        "tenant": "tenant=t-3",
        "definition": "definition=fulfillment.v1",
        "sku": "sku=sku-3",
    }
    start = NOON - timedelta(days=3)
    until = (start + timedelta(seconds=60)).isoformat().replace("+00:00", "Z")
    query = "".join(f"&{asked[name]}" for name in sorted(names)) + f"&started_before={until}"

    async def add() -> None:
        """One more that the filter shows, in front of all that was there."""
        newer = chosen_decision(names, start + timedelta(seconds=59, milliseconds=900))
        async with db.transaction() as tx:
            await store.apply(tx, [newer])

    found = await read_all(api, query, add)
    expected = [
        row for row in filled if row.started_at < start + timedelta(seconds=60) and is_there(row, names)
    ]
    known = {row.workflow_id for row in filled}
    shown = [row["workflow_id"] for row in found]
    assert len(shown) == len(set(shown))
    assert {each for each in shown if each in known} == {row.workflow_id for row in expected}
    order = [(row["started_at"], row["workflow_id"]) for row in found]
    assert order == sorted(order, reverse=True)
    assert set(found[0]) == set(answers.WorkflowSummary.model_fields)


def chosen_decision(names: frozenset[str], started_at: datetime) -> DecisionMade:
    """A new workflow that a filter by ``names`` shows; one that waits for a step is running."""
    return decision(
        1,
        workflow_id=str(uuid4()),
        status="running",
        tenant="t-3",
        definition="fulfillment.v1",
        lines=(Line("sku-3", 1),),
        steps=(step("authorize_payment"), step(status="requested")),
        started_at=started_at,
    )


async def test_page_says_how_fresh_it_is(api: Api, filled: list[DecisionMade]) -> None:
    """A list comes from the database, as of the moment before it was asked."""
    before = datetime.now(UTC)
    stamp = (await api.get("/v1/workflows?limit=1")).body["freshness"]
    assert stamp["source"] == "database"
    assert before <= datetime.fromisoformat(stamp["as_of"]) <= datetime.now(UTC)


async def test_full_last_page_ends_the_list(api: Api, db: Database) -> None:
    """A page that is exactly full and the last has no next cursor."""
    async with db.transaction() as tx:
        await store.apply(tx, [decision(1, workflow_id=str(uuid4()), tenant="two") for _ in range(2)])
    page = (await api.get("/v1/workflows?tenant=two&limit=2")).body
    assert (len(page["items"]), page["next_cursor"]) == (2, None)


async def test_cursor_with_another_filter_is_refused(api: Api, filled: list[DecisionMade]) -> None:
    """It would leave out what the other list has before that place; the limit may change."""
    cursor = (await api.get("/v1/workflows?tenant=t-3&limit=5")).body["next_cursor"]
    assert (await api.get(f"/v1/workflows?tenant=t-3&limit=9&cursor={cursor}")).status == 200
    for other in ("tenant=t-4", "tenant=t-3&status=running", "older_than=1d&tenant=t-3", "limit=5"):
        seen = await api.get(f"/v1/workflows?{other}&cursor={cursor}")
        assert (seen.status, seen.body["code"]) == (400, "invalid-parameter"), other
        assert "cursor is of a list with other filters" in seen.body["detail"]


async def test_filters_that_no_index_answers_are_refused_with_a_way_out(api: Api) -> None:
    """Rather a refusal that names the nearest allowed filters than an answer that takes for ever."""
    seen = await api.get("/v1/workflows?tenant=t-3&definition=fulfillment.v1")
    assert (seen.status, seen.body["code"]) == (400, "invalid-parameter")
    assert seen.body["detail"] == (
        "definition and tenant together are in no index; give only definition, or only tenant; "
        "started_before and started_after go with each."
    )


async def test_list_that_takes_too_long_is_told_so(settings: Settings, filled: list[DecisionMade]) -> None:
    """Postgres stops within the limit; the answer says what to do, and the connection goes on."""
    hurried = settings.model_copy(update={"list_timeout": 0.2})
    async with running_intake(hurried) as api:
        blocker = psycopg2.connect(settings.postgres_dsn)
        with blocker.cursor() as cursor:
            cursor.execute(
                "LOCK TABLE read_model.workflow_runs, read_model.run_keys IN ACCESS EXCLUSIVE MODE"
            )
        for path in ("/v1/workflows?tenant=t-3", "/v1/search?q=t-3"):
            seen = await api.get(path)
            assert (seen.status, seen.body["code"]) == (503, "too-slow")
            assert "list_timeout=0.2 s" in seen.body["detail"]
            assert int(seen.headers["Retry-After"]) > 0
        blocker.close()
        assert (await api.get("/v1/workflows?tenant=t-3")).status == 200
