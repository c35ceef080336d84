"""A swap of generations under load: nothing is lost, and nobody ever sees an older version after a newer."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from uuid import uuid4

import pytest
from decisions import history
from eventually import eventually
from projecting import (
    WITHIN,
    Journal,
    growing,
    held,
    journal_of,
    last_generation,
    projector,
    rows,
    started,
    until_projected,
)

from fulcrum.errors import Conflict
from fulcrum.readmodel import control, queries, rebuild, swap
from fulcrum.readmodel.cache import Cache
from fulcrum.readmodel.projection import project, to_json
from fulcrum.readmodel.verify import verify
from fulcrum.readmodel.view import View
from fulcrum.settings import Settings
from fulcrum.store.database import Database

WORKFLOWS = 20
_PAUSE = 0.05


@pytest.fixture(scope="module")
def journal(settings: Settings) -> Iterator[Journal]:
    """A journal with a projector behind it."""
    with journal_of(settings) as opened, projector(settings):
        yield opened


class Load:
    """New versions of the same workflows, some hundred decisions a second, until it is stopped."""

    def __init__(self, journal: Journal) -> None:
        self.workflow_ids = [str(uuid4()) for _ in range(WORKFLOWS)]
        self.version = 0
        self._journal = journal
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stopping.wait(_PAUSE):
            self.version += 1
            self._journal.record(growing(self.workflow_ids, self.version))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()


class Watch:
    """Reads every workflow from Postgres and from Redis all the time, and notes each step back."""

    def __init__(self, settings: Settings, workflow_ids: Sequence[str]) -> None:
        self._settings = settings
        self._ids = workflow_ids
        self._newest: dict[tuple[str, str], int] = {}
        self.seen: Counter[str] = Counter()
        self.steps_back: list[tuple[str, str, int, int]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        db = await Database.open(self._settings.postgres_dsn, size=2)
        cache = Cache.open(self._settings)
        while not self._stopping.is_set():
            for workflow_id in self._ids:
                # Each source for itself: Redis is written a moment after Postgres.
                stored = await queries.find_run(db, workflow_id)
                self._note("postgres", workflow_id, stored)
                cached = await cache.get(workflow_id)
                self._note("redis", workflow_id, cached.view if cached else None)
                if cached is None and stored is not None:
                    await cache.put_many([stored])  # as the API does after a miss
        await cache.close()
        await db.close()

    def _note(self, source: str, workflow_id: str, view: View | None) -> None:
        if view is None:
            return
        self.seen[source] += 1
        before = self._newest.get((source, workflow_id), 0)
        if view.version < before:
            self.steps_back.append((source, workflow_id, before, view.version))
        self._newest[source, workflow_id] = view.version

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()


def go_on(load: Load, watch: Watch) -> None:
    """Return when more has been decided and every workflow has been read from both sources."""
    version, seen = load.version, watch.seen.copy()

    def both_moved() -> bool:
        read = watch.seen - seen
        return load.version > version + 10 and min(read["postgres"], read["redis"]) > WORKFLOWS

    eventually(both_moved, within=WITHIN, state=lambda: (load.version, watch.seen))


def build(settings: Settings) -> int:
    """Rebuild in this process; returns the generation."""
    built = rebuild.rebuild(settings, None, lambda _: None, threading.Event())
    assert built.status == "ready"
    return built.generation


def live(settings: Settings) -> tuple[int, int]:
    """The live generation and the epoch."""
    row = rows(settings, "SELECT live, epoch FROM read_model.projections")[0]
    return row["live"], row["epoch"]


def test_swap_and_rollback_under_load(settings: Settings, journal: Journal) -> None:
    """Decisions go on all the time; in the end each generation that was live has every one of them."""
    first, epoch = live(settings)
    with Load(journal) as load, Watch(settings, load.workflow_ids) as watch:
        eventually(lambda: watch.seen["redis"] > WORKFLOWS, within=WITHIN)
        second = build(settings)
        swapped = swap.swap(settings)
        assert (swapped.live, swapped.previous, swapped.epoch) == (second, first, epoch + 1)
        assert swapped.cache_told
        assert live(settings) == (second, epoch + 1)
        go_on(load, watch)
        assert swap.rollback(settings).live == first
        assert live(settings) == (first, epoch + 2)
        go_on(load, watch)
        assert swap.rollback(settings).live == second
        go_on(load, watch)
    assert watch.steps_back == []
    wanted = dict.fromkeys(load.workflow_ids, (load.version, "running", load.version))
    eventually(lambda: wanted.items() <= held(settings).items(), within=WITHIN, state=lambda: held(settings))
    control.drop(settings, first)
    with pytest.raises(Conflict, match="no generation to go back to"):
        swap.rollback(settings)


def test_verify_is_exact_under_load(settings: Settings, journal: Journal) -> None:
    """While decisions go on, a right generation shows no difference: both are seen at the same offsets."""
    with Load(journal) as load:
        eventually(lambda: load.version > 20, within=WITHIN)
        build(settings)
        for _ in range(3):
            found = verify(settings, None, 10)
            assert found.same, found
        assert verify(settings, 10, 10).same
    control.abort(settings)


def test_only_a_ready_generation_is_swapped_in(settings: Settings, journal: Journal) -> None:
    """One that stopped on the way is refused and says what it is."""
    journal.record(history())
    stopping = threading.Event()
    stopping.set()
    assert rebuild.rebuild(settings, None, lambda _: None, stopping).status == "paused"
    with pytest.raises(Conflict, match="is paused: only a ready one"):
        swap.swap(settings)
    control.abort(settings)


def test_a_migration_between_refuses_the_swap(settings: Settings, journal: Journal) -> None:
    """Relations that are no longer alike do not change places; the message names the column."""
    build(settings)
    rows(settings, "ALTER TABLE read_model.timeline ADD COLUMN remark text")
    with pytest.raises(Conflict, match="remark text"):
        swap.swap(settings)
    rows(settings, "ALTER TABLE read_model.timeline DROP COLUMN remark")
    assert swap.swap(settings).live == last_generation(settings)["generation"]


def test_long_reader_makes_the_swap_wait_and_not_the_others(settings: Settings, journal: Journal) -> None:
    """A transaction that reads for long is not waited for without end, and the projector goes on."""
    import psycopg2

    build(settings)
    before = live(settings)
    reader = psycopg2.connect(settings.postgres_dsn)
    with reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM read_model.workflow_runs")
        refused = started(settings, "swap", "workflows")
        _, said = refused.communicate(timeout=WITHIN)
    assert refused.returncode == 7, said
    assert live(settings) == before
    reader.close()
    told = history()
    journal.record(told)
    until_projected(settings, told)
    swapped = started(settings, "swap", "workflows")
    output, said = swapped.communicate(timeout=WITHIN)
    assert swapped.returncode == 0, said
    assert "is live" in output
    until_projected(settings, told)


@pytest.fixture
async def cache(settings: Settings) -> AsyncIterator[Cache]:
    """The cache that the swap tells of it."""
    opened = Cache.open(settings)
    yield opened
    await opened.close()


async def test_nothing_from_before_an_epoch_is_shown(cache: Cache) -> None:
    """A generation may tell the same version otherwise: what an epoch ended is a miss, and stays one."""
    told = history()
    newest = told[-1]
    views = {
        epoch: View(
            newest.workflow_id,
            newest.version,
            newest.status,
            to_json(project(newest).run),
            {made.version: to_json(project(made).entry) for made in told},
            epoch=epoch,
        )
        for epoch in (101, 102)
    }
    await cache.put_many([views[101]])
    assert await cache.get(newest.workflow_id) is not None
    assert await cache.begin_epoch(102)
    assert await cache.get(newest.workflow_id) is None
    await cache.put_many([views[101]])
    assert await cache.get(newest.workflow_id) is None
    await cache.put_many([views[102]])
    shown = await cache.get(newest.workflow_id)
    assert shown is not None
    assert shown.view.epoch == 102
