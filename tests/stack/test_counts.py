"""How many workflows there are: as many as the fold of the journal, however it came, and after a swap."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from decisions import history
from intake import Api
from projecting import Journal, folded, journal_of, projector, until_projected

from fulcrum.readmodel import rebuild, swap
from fulcrum.readmodel.counts import Counts, count_runs
from fulcrum.saga.messages import DecisionMade
from fulcrum.settings import Settings
from fulcrum.store.database import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

TENANTS = ("acme", "borg", "cyan")
STATUSES = ("completed", "cancelled", "running", "paused", "needs_attention")


@pytest.fixture(scope="module")
def journal(settings: Settings) -> Iterator[Journal]:
    """A journal with a projector behind it."""
    with journal_of(settings) as opened, projector(settings):
        yield opened


@pytest.fixture(scope="module")
def told(settings: Settings, journal: Journal) -> list[DecisionMade]:
    """Workflows of several tenants that end differently: shuffled, some of it twice."""
    chance = random.Random(11)
    made = []
    for _ in range(60):
        first, second, last = history(tenant=chance.choice(TENANTS))
        made += [first, second, replace(last, status=chance.choice(STATUSES))]
    made += chance.sample(made, len(made) // 3)
    chance.shuffle(made)
    journal.record(made)
    until_projected(settings, made)
    return made


def expected(decisions: Sequence[DecisionMade]) -> dict[str, Counter[str]]:
    """What the fold of the journal counts, by tenant."""
    tenants = {made.workflow_id: made.tenant for made in decisions}
    counted: dict[str, Counter[str]] = {}
    for workflow_id, view in folded(decisions).items():
        counted.setdefault(tenants[workflow_id], Counter())[view.status] += 1
    return counted


async def counted(db: Database, **which: Any) -> Counts:
    """What the read model counts."""
    return await count_runs(db, **{"tenant": None, "after": None, "most": 50, "within": 5.0, **which})


async def test_counts_equal_the_fold_also_after_a_swap(
    settings: Settings, db: Database, journal: Journal, told: list[DecisionMade], api: Api
) -> None:
    """Repeated and disordered decisions count once, in one generation, the next one, and after it."""
    wanted = expected(told)
    before = await counted(db)
    assert before.by_tenant == wanted
    assert before.by_status == sum(wanted.values(), Counter())
    built = await asyncio.to_thread(rebuild.rebuild, settings, None, lambda _: None, threading.Event())
    assert built.status == "ready"
    await asyncio.to_thread(swap.swap, settings)
    after = await counted(db)
    assert (after.by_tenant, after.by_status) == (before.by_tenant, before.by_status)
    assert after.epoch == before.epoch + 1
    more = history(tenant="acme")
    journal.record([*more, *more])
    until_projected(settings, [*told, *more])
    assert (await counted(db)).by_tenant == expected([*told, *more])


async def test_one_moment_of_one_tenant_or_of_a_page_of_them(
    db: Database, told: list[DecisionMade], api: Api
) -> None:
    """Every status is there; pages of tenants go by their names, and the whole is that of all."""
    all_of_them = (await api.get("/v1/workflows/counts")).body
    assert all_of_them["total"] == sum(each["total"] for each in all_of_them["tenants"])
    assert {"accepted", "running", "terminated"} - all_of_them["by_status"].keys() == {"accepted"}
    assert all_of_them["freshness"]["source"] == "database"
    one = (await api.get("/v1/workflows/counts?tenant=borg")).body
    assert [each["tenant"] for each in one["tenants"]] == ["borg"]
    assert one["by_status"] == one["tenants"][0]["by_status"]
    first = (await api.get("/v1/workflows/counts?limit=2")).body
    assert (first["next_after"], first["total"]) == ("borg", all_of_them["total"])
    rest = (await api.get("/v1/workflows/counts?after=borg")).body
    assert [*first["tenants"], *rest["tenants"]] == all_of_them["tenants"]
    assert rest["next_after"] is None


async def test_nobody_has_nothing(api: Api) -> None:
    """A tenant without workflows has zeros and no row."""
    none = (await api.get("/v1/workflows/counts?tenant=nobody")).body
    assert (none["total"], none["tenants"], set(none["by_status"].values())) == (0, [], {0})
