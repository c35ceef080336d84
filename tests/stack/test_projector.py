"""The projector's process: whatever way decisions come, the read model is the fold of the journal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from decisions import decision, history
from eventually import eventually
from projecting import (
    WITHIN,
    Journal,
    folded,
    journal_of,
    projector,
    rows,
    stories,
    until_projected,
)

from fulcrum.readmodel import queries
from fulcrum.settings import Settings
from fulcrum.store.database import Database


@pytest.fixture(scope="module")
def journal(settings: Settings) -> Iterator[Journal]:
    """An empty journal."""
    with journal_of(settings) as opened:
        yield opened


def stored(settings: Settings) -> dict[int, int]:
    """The offsets that the live generation has stored, by partition."""
    found = rows(settings, "SELECT partition, next_offset FROM read_model.generation_offsets")
    return {row["partition"]: row["next_offset"] for row in found}


async def test_twice_and_out_of_order_is_the_fold_of_the_journal(
    settings: Settings, journal: Journal
) -> None:
    """Decisions delivered twice, newest first and across restarts leave what the journal folds to."""
    told = stories(100, seed=1)
    with projector(settings):
        journal.record(told[::-1])
        until_projected(settings, told)
    with projector(settings):
        journal.record(told)
        last = history()
        journal.record(last)
        until_projected(settings, last)
    db = await Database.open(settings.postgres_dsn, size=1)
    for workflow_id, view in folded(told).items():
        assert await queries.find_run(db, workflow_id) == view
    await db.close()


def test_offsets_are_stored_with_the_rows(settings: Settings, journal: Journal) -> None:
    """What Postgres says of the offsets is what its rows show: one more than the last decision written."""
    told = [decision(1, status="running") for _ in range(3)]
    with projector(settings):
        before = eventually(lambda: stored(settings), within=WITHIN)
        for made in told:
            journal.append(b"k", journal.encoded(made), partition=0)
        journal.append(b"k", b"no frame", partition=0)
        journal.flush()
        eventually(
            lambda: stored(settings)[0] == before[0] + 3, within=WITHIN, state=lambda: stored(settings)
        )
        assert stored(settings)[1] == before[1]
