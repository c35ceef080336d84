"""The cache: never older than it was, complete or silent, and never in the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from uuid import uuid4

import pytest
from decisions import history
from eventually import eventually_async
from link import linked
from redis.asyncio import Redis

from fulcrum.readmodel.cache import READ_WITHIN, Cache
from fulcrum.readmodel.projection import project, to_json
from fulcrum.readmodel.view import View
from fulcrum.saga.messages import DecisionMade
from fulcrum.settings import Settings


@pytest.fixture
async def cache(settings: Settings) -> AsyncIterator[Cache]:
    """A cache in the module's namespace."""
    opened = Cache.open(settings)
    yield opened
    await opened.close()


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    """Redis itself."""
    opened = Redis.from_url(settings.redis_url)
    yield opened
    await opened.aclose()


def view_of(told: Sequence[DecisionMade], *entries: int) -> View:
    """The view at the newest of ``told``, with all its entries or only those of the given versions."""
    newest = told[-1]
    return View(
        newest.workflow_id,
        newest.version,
        newest.status,
        to_json(project(newest).run),
        {m.version: to_json(project(m).entry) for m in told if not entries or m.version in entries},
    )


async def shown(cache: Cache, view: View) -> View | None:
    """What the cache shows of the workflow of ``view``."""
    cached = await cache.get(view.workflow_id)
    return cached.view if cached else None


async def test_what_was_put_is_shown(cache: Cache) -> None:
    """A complete view comes back as it was."""
    view = view_of(history())
    await cache.put_many([view])
    assert await shown(cache, view) == view


async def test_unknown_workflow_is_not_shown(cache: Cache) -> None:
    """A miss is None."""
    assert await cache.get(str(uuid4())) is None


async def test_older_version_never_follows_a_newer_one(cache: Cache) -> None:
    """Whoever comes late, a writer that was held up or a reader that fills, changes nothing."""
    told = history()
    newest = view_of(told)
    await cache.put_many([newest])
    for late in (view_of(told[:1]), view_of(told[:2])):
        await cache.put_many([late])
        assert await shown(cache, newest) == newest


async def test_writers_at_the_same_time_leave_the_newest(cache: Cache) -> None:
    """Twenty versions put in any order at once end with the last, complete."""
    base = history()[0]
    told = [replace(base, version=n) for n in range(1, 21)]
    views = [view_of(told[:n]) for n in range(1, 21)]
    await asyncio.gather(*(cache.put_many([view]) for view in [*views[::2], *views[1::2]]))
    assert await shown(cache, views[-1]) == views[-1]


async def test_entries_of_several_batches_make_a_whole(cache: Cache) -> None:
    """A projector puts only what a batch brought; the cache joins it."""
    told = history()
    await cache.put_many([view_of(told[:1])])
    assert await shown(cache, view_of(told[:1])) == view_of(told[:1])
    await cache.put_many([view_of(told, 2, 3)])
    assert await shown(cache, view_of(told)) == view_of(told)


async def test_view_with_a_hole_is_a_miss_until_it_is_filled(cache: Cache) -> None:
    """After a flush a version may come without its past: it is not shown until a reader filled that in."""
    told = history()
    await cache.put_many([view_of(told, 3)])
    assert await shown(cache, view_of(told)) is None
    await cache.put_many([view_of(told)])
    assert await shown(cache, view_of(told)) == view_of(told)


async def test_many_views_go_at_once(cache: Cache) -> None:
    """A batch larger than one script call arrives whole."""
    views = [view_of(history()) for _ in range(250)]
    await cache.put_many(views)
    assert [await shown(cache, view) for view in views] == views


async def test_everything_expires(cache: Cache, redis: Redis, settings: Settings) -> None:
    """A finished workflow keeps for about an hour; a live one for half a minute, should its next be lost."""
    told = history()
    live, finished = view_of(history()[:2]), view_of(told)
    await cache.put_many([live, finished])
    keeps = [await redis.pttl(f"{settings.namespace}:run:{view.workflow_id}") for view in (live, finished)]
    assert 26_000 < keeps[0] <= 33_000
    assert 3_200_000 < keeps[1] <= 3_960_000


async def test_namespaces_are_apart(cache: Cache, settings: Settings) -> None:
    """Two installations on one Redis do not see each other."""
    view = view_of(history())
    await cache.put_many([view])
    other = Cache.open(settings.model_copy(update={"namespace": f"n{uuid4().hex[:8]}"}))
    assert await shown(other, view) is None
    await other.close()


async def test_flushed_scripts_are_loaded_again(cache: Cache, redis: Redis) -> None:
    """Redis forgot the script, as after a restart: the next write brings it."""
    await cache.put_many([view_of(history())])
    await redis.script_flush()
    view = view_of(history())
    await cache.put_many([view])
    assert await shown(cache, view) == view


async def test_foreign_value_under_the_key_is_a_miss(cache: Cache, redis: Redis, settings: Settings) -> None:
    """Something else in its place neither raises nor is shown."""
    view = view_of(history())
    await redis.set(f"{settings.namespace}:run:{view.workflow_id}", "x")
    assert await shown(cache, view) is None


async def test_refused_connection_is_a_miss(settings: Settings) -> None:
    """Without Redis a read is a miss and a write is dropped; neither raises, and reads rest for a while."""
    cache = Cache.open(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    view = view_of(history())
    assert cache.usable
    await cache.put_many([view])
    assert await shown(cache, view) is None
    assert not cache.usable
    await cache.close()


async def test_hanging_redis_is_left_after_its_time(settings: Settings) -> None:
    """A read ends within 50 ms, the next ones at once; later answers are nobody else's."""
    async with linked(settings.redis_url) as (link, url):
        cache = Cache.open(settings.model_copy(update={"redis_url": url}))
        one, two = view_of(history()), view_of(history())
        await cache.put_many([one, two])
        assert await shown(cache, one) == one
        link.freeze()
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await shown(cache, one) is None
        first = loop.time()
        assert await shown(cache, one) is None
        assert first - began < READ_WITHIN + 0.1
        assert loop.time() - first < READ_WITHIN / 2
        await link.mend()

        async def back() -> bool:
            return await shown(cache, two) == two

        await eventually_async(back, within=10)
        assert await shown(cache, one) == one
        await cache.close()


async def test_hanging_redis_holds_a_writer_up_for_a_moment_only(settings: Settings) -> None:
    """The projector goes on without the cache."""
    async with linked(settings.redis_url) as (link, url):
        cache = Cache.open(settings.model_copy(update={"redis_url": url}))
        link.freeze()
        async with asyncio.timeout(1):
            await cache.put_many([view_of(history()) for _ in range(250)])
        await cache.close()
