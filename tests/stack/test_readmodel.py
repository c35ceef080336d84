"""The read model on Postgres and behind the API: the newest version, once, from wherever it can be had."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from uuid import uuid4

import pytest
from decisions import NOON, history
from eventually import eventually_async
from intake import Api, running_intake
from link import linked
from redis.asyncio import Redis
from sqlalchemy import text

from fulcrum.readmodel import queries, store
from fulcrum.readmodel.projection import project, timestamp, to_json
from fulcrum.readmodel.view import View
from fulcrum.saga.messages import DecisionMade
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.web import answers

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def apply(db: Database, decisions: Sequence[DecisionMade]) -> list[View]:
    """Apply a batch in a transaction of its own."""
    async with db.transaction() as tx:
        return await store.apply(tx, decisions)


def folded(decisions: Sequence[DecisionMade]) -> View:
    """What the read model must hold after ``decisions``, whatever way they came."""
    newest = max(decisions, key=lambda made: made.version)
    return View(
        newest.workflow_id,
        newest.version,
        newest.status,
        to_json(project(newest).run),
        {made.version: to_json(project(made).entry) for made in decisions},
    )


async def test_batch_holds_the_newest_run_and_the_whole_timeline(db: Database) -> None:
    """What is read back is what was projected, to the byte."""
    told = history()
    assert await apply(db, told) == [folded(told)]
    assert await queries.find_run(db, told[0].workflow_id) == folded(told)


@pytest.mark.parametrize("seed", range(5))
async def test_order_repeats_and_batches_do_not_matter(db: Database, seed: int) -> None:
    """Decisions of many workflows, shuffled, repeated and cut into batches, give the fold of the journal."""
    chance = random.Random(seed)
    told = [history() for _ in range(6)]
    stream = [made for workflow in told for made in workflow * 2]
    chance.shuffle(stream)
    while stream:
        size = chance.randint(1, 7)
        await apply(db, stream[:size])
        stream = stream[size:]
    for workflow in told:
        assert await queries.find_run(db, workflow[0].workflow_id) == folded(workflow)


async def test_older_version_changes_nothing_and_is_not_for_the_cache(db: Database) -> None:
    """A replay behind what is stored is left out of what ``apply`` returns."""
    told = history()
    await apply(db, told)
    assert await apply(db, told[:2]) == []
    assert await queries.find_run(db, told[0].workflow_id) == folded(told)


async def test_repeat_of_the_newest_version_is_returned_for_the_cache(db: Database) -> None:
    """A crash between the database and the cache is made good by the redelivery."""
    told = history()
    await apply(db, told)
    assert [view.version for view in await apply(db, told[2:])] == [3]


async def test_two_writers_of_the_same_workflows_do_not_stop_each_other(db: Database) -> None:
    """Batches that touch the same rows in opposite orders both commit."""
    told = [history() for _ in range(40)]
    forward = [made for workflow in told for made in workflow]
    await asyncio.gather(*(apply(db, batch) for batch in [forward, forward[::-1]] * 4))
    for workflow in told:
        assert await queries.find_run(db, workflow[0].workflow_id) == folded(workflow)


async def test_nothing_to_apply_is_fine(db: Database) -> None:
    """An empty batch writes nothing."""
    assert await apply(db, []) == []


async def test_accepted_intent_is_found_at_once(api: Api) -> None:
    """Before its first decision an intent shows as accepted, at version 0, with the steps that await it."""
    workflow_id = await api.accept(definition="reserve_first.v1")
    seen = await api.get(f"/v1/workflows/{workflow_id}")
    assert seen.status == 200
    assert (seen.body["status"], seen.body["version"]) == ("accepted", 0)
    assert seen.body["freshness"]["source"] == "intake"
    assert [step["name"] for step in seen.body["steps"]] == ["reserve_stock", "authorize_payment"]
    assert seen.body["timeline"] == []


async def test_workflow_comes_from_the_database_then_from_the_cache(api: Api, db: Database) -> None:
    """The first read fills the cache; both answers are the same but for their freshness."""
    told = history()
    await apply(db, told)
    path = f"/v1/workflows/{told[0].workflow_id}"
    first, second = (await api.get(path)).body, (await api.get(path)).body
    assert first.pop("freshness")["source"] == "database"
    stamp = second.pop("freshness")
    assert (stamp["source"], stamp["version"]) == ("cache", 3)
    assert first == second
    assert set(first) | {"freshness"} == set(answers.Workflow.model_fields)
    assert [entry["version"] for entry in first["timeline"]] == [1, 2, 3]
    assert set(first["timeline"][0]) == set(answers.Entry.model_fields)
    where_there_is_one = {"verb", "reason", "trace_id"}  # what people said, and the trace
    assert set(first["timeline"][0]["cause"]) == set(answers.Cause.model_fields) - where_there_is_one
    assert [entry["since_previous_ms"] for entry in first["timeline"]] == [None, 1000, 1000]


async def test_min_version_waits_for_the_write(api: Api, db: Database) -> None:
    """A client that knows a version gets it as soon as it is projected, past an older cached one."""
    told = history()
    await apply(db, told[:1])
    path = f"/v1/workflows/{told[0].workflow_id}"
    assert [(await api.get(path)).body["version"] for _ in range(2)] == [1, 1]
    waiting = asyncio.create_task(api.get(f"{path}?min_version=3"))
    await apply(db, told[1:2])
    assert (await api.get(f"{path}?min_version=2")).body["version"] == 2
    assert not waiting.done()
    await apply(db, told[2:])
    seen = await waiting
    assert (seen.status, seen.body["version"]) == (200, 3)


async def test_min_version_that_does_not_come_is_503(api: Api) -> None:
    """The wait is bounded, and the answer says when to try again."""
    workflow_id = await api.accept()
    seen = await api.get(f"/v1/workflows/{workflow_id}?min_version=1")
    assert (seen.status, seen.body["code"]) == (503, "not-yet")
    assert int(seen.headers["Retry-After"]) > 0


async def test_stock_is_read_from_inventory(api: Api, db: Database) -> None:
    """The view shows what inventory counts, and all that ever came in."""
    sku = f"sku-{uuid4()}"
    await db.execute(
        text("INSERT INTO inventory.stock VALUES (:sku, 5, 3, 2, 9)"),
        {"sku": sku},
    )
    seen = await api.get(f"/v1/stock/{sku}")
    assert seen.body == {
        "sku": sku,
        "available": 5,
        "reserved": 3,
        "consumed": 2,
        "received": 10,
        "version": 9,
    }


async def test_cached_workflow_is_shown_while_postgres_is_away(settings: Settings, db: Database) -> None:
    """What is in Redis needs no database; what is not is 503 until Postgres is back."""
    told, other = history(), history()
    await apply(db, told + other)
    async with (
        linked(settings.postgres_dsn) as (link, dsn),
        running_intake(settings.model_copy(update={"postgres_dsn": dsn})) as api,
    ):
        path = f"/v1/workflows/{told[0].workflow_id}"
        await api.get(path)
        await link.cut()
        assert (await api.get(path)).body["freshness"]["source"] == "cache"
        missing = f"/v1/workflows/{other[0].workflow_id}"
        assert (await api.get(missing)).status == 503
        await link.mend()

        async def shown() -> bool:
            return (await api.get(missing)).status == 200

        await eventually_async(shown, within=15)


@pytest.mark.parametrize("fault", ["cut", "frozen"])
async def test_read_does_not_need_redis(settings: Settings, db: Database, fault: str) -> None:
    """Redis gone or hanging costs a moment, never an answer; once it is well again it is used again."""
    told = history()
    await apply(db, told)
    path = f"/v1/workflows/{told[0].workflow_id}"
    async with (
        linked(settings.redis_url) as (link, url),
        running_intake(settings.model_copy(update={"redis_url": url})) as api,
    ):
        await api.get(path)
        assert (await api.get(path)).body["freshness"]["source"] == "cache"
        if fault == "cut":
            await link.cut()
        else:
            link.freeze()
        loop = asyncio.get_running_loop()
        began = loop.time()
        seen = [await api.get(path) for _ in range(20)]
        took = loop.time() - began
        assert {(s.status, s.body["freshness"]["source"]) for s in seen} == {(200, "database")}
        # One of them may wait the 50 ms for Redis; all of them would take a second.
        assert took < 0.9, took
        await link.mend()

        async def cached() -> bool:
            return (await api.get(path)).body["freshness"]["source"] == "cache"

        await eventually_async(cached, within=10)


async def test_flushed_redis_costs_one_read_of_the_database(
    api: Api, settings: Settings, db: Database
) -> None:
    """All that the cache held is gone, the epoch too: the next read fills it again."""
    told = history()
    await apply(db, told)
    path = f"/v1/workflows/{told[0].workflow_id}"
    await api.get(path)
    redis = Redis.from_url(settings.redis_url)
    async for key in redis.scan_iter(f"{settings.namespace}:*"):
        await redis.delete(key)
    await redis.aclose()
    seen = [await api.get(path) for _ in range(2)]
    assert [(s.status, s.body["freshness"]["source"]) for s in seen] == [(200, "database"), (200, "cache")]


async def test_times_of_the_answer_are_those_of_the_decisions(api: Api, db: Database) -> None:
    """Start, last change and end are as the journal has them."""
    told = history()
    await apply(db, told)
    shown = (await api.get(f"/v1/workflows/{told[0].workflow_id}")).body
    assert shown["started_at"] == timestamp(told[0].started_at)
    assert shown["updated_at"] == shown["finished_at"] == timestamp(NOON)
    assert [entry["at"] for entry in shown["timeline"]] == [timestamp(made.decided_at) for made in told]
