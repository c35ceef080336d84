"""A new generation, built from the journal beside the live one: whole, resumable, and in nobody's way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from decisions import decision, history
from eventually import eventually
from projecting import (
    WITHIN,
    Journal,
    another_namespace,
    expected,
    growing,
    held,
    journal_of,
    last_generation,
    lines,
    projector,
    rows,
    started,
    stories,
    until_projected,
)

from fulcrum.errors import Conflict, NotFound
from fulcrum.readmodel import control, generations, rebuild
from fulcrum.readmodel.folding import FoldError
from fulcrum.readmodel.generations import schema_of
from fulcrum.readmodel.rebuild import Progress
from fulcrum.readmodel.verify import verify
from fulcrum.saga.messages import DecisionMade
from fulcrum.settings import Settings

MANY = 12_000


@pytest.fixture(scope="module")
def journal(settings: Settings) -> Iterator[Journal]:
    """A journal with a projector behind it."""
    with journal_of(settings) as opened, projector(settings):
        yield opened


@pytest.fixture(scope="module")
def told(settings: Settings, journal: Journal) -> list[DecisionMade]:
    """Decisions enough for a rebuild to be stopped in the middle; the live generation has them."""
    made = stories(MANY // 3)
    journal.record(made)
    until_projected(settings, made)
    return made


@pytest.fixture(autouse=True)
def nothing_in_work(settings: Settings) -> Iterator[None]:
    """Each test begins a generation of its own."""
    yield
    if last_generation(settings)["status"] in generations.IN_WORK:
        control.abort(settings)


def build(
    settings: Settings, since: datetime | None = None, skip: tuple[int, int] | None = None
) -> generations.Generation:
    """Rebuild in this process."""
    return rebuild.rebuild(settings, since, lambda _: None, threading.Event(), skip)


def in_the_middle(settings: Settings) -> bool:
    """Whether a generation is being built and has some of the journal."""
    seen = last_generation(settings)
    return seen["status"] == "building" and seen["decisions"] > 0


def test_rebuild_equals_the_fold_and_the_live_generation(
    settings: Settings, told: list[DecisionMade]
) -> None:
    """From a journal with repeats, in any order, come the rows that the projector made, and their indexes."""
    seen: list[Progress] = []
    built = rebuild.rebuild(settings, None, seen.append, threading.Event())
    assert (built.status, built.indexed, built.decisions) == ("ready", True, len(told))
    assert held(settings, built.schema) == expected(told)
    found = verify(settings, None, 10)
    assert found.same
    runs = MANY // 3
    assert {(each.live, each.new) for each in found.compared} == {(n, n) for n in (runs, MANY, 4 * runs)}
    assert (seen[-1].phase, seen[-1].done, seen[-1].total) == ("ready", len(told), len(told))
    indexes = "SELECT indexname FROM pg_indexes WHERE schemaname = '{}' AND tablename = ANY(%s) ORDER BY 1"
    names = [["workflow_runs", "timeline", "run_keys"]]
    assert rows(settings, indexes.format(built.schema), names) == rows(
        settings, indexes.format("read_model"), names
    )


def test_killed_rebuild_goes_on_where_it_was(settings: Settings, told: list[DecisionMade]) -> None:
    """After kill -9 in the middle no decision is left out and none is folded twice."""
    process = started(settings, "rebuild", "workflows", "-o", "ndjson")
    eventually(lambda: in_the_middle(settings), within=WITHIN, state=process.poll)
    process.kill()
    process.communicate()
    seen = last_generation(settings)
    assert seen["status"] == "building"
    assert 0 < seen["decisions"] < len(told)
    built = eventually(lambda: build(settings), within=WITHIN)
    assert (built.generation, built.status, built.decisions) == (seen["generation"], "ready", len(told))
    assert verify(settings, None, 10).same


def test_interrupted_rebuild_pauses_and_the_command_again_goes_on(
    settings: Settings, told: list[DecisionMade]
) -> None:
    """Ctrl-C ends the command well; the next one tells its progress as lines up to the end."""
    process = started(settings, "rebuild", "workflows", "-o", "ndjson")
    eventually(lambda: in_the_middle(settings), within=WITHIN, state=process.poll)
    process.send_signal(signal.SIGINT)
    output, said = process.communicate(timeout=WITHIN)
    assert process.returncode == 0, said
    assert lines(output)[-1]["status"] == "paused"
    assert lines(output)[-1]["decisions"] < len(told)
    again = started(settings, "rebuild", "workflows", "-o", "ndjson")
    output, said = again.communicate(timeout=WITHIN)
    assert again.returncode == 0, said
    *progress, last = lines(output)
    assert (last["status"], last["decisions"]) == ("ready", len(told))
    assert {"done", "total", "rate", "eta_s", "phase"} <= progress[0].keys()


@pytest.mark.parametrize(("act", "status"), [(control.pause, "paused"), (control.abort, "dropped")])
def test_another_process_pauses_or_aborts(
    settings: Settings, told: list[DecisionMade], act: object, status: str
) -> None:
    """What is asked through Postgres is done after the batch; what is aborted leaves no relation."""
    asked: list[object] = []

    def ask(progress: Progress) -> None:
        if not asked:
            asked.append(act(settings))  # type: ignore[operator]

    built = rebuild.rebuild(settings, None, ask, threading.Event())
    assert built.status == status
    assert built.decisions < len(told)
    left = rows(settings, "SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema_of(built.generation)])
    assert len(left) == (status == "paused")


def test_abort_without_a_process_drops_at_once(settings: Settings, told: list[DecisionMade]) -> None:
    """A generation that nobody is at goes when it is told to; nothing to pause or abort is an error."""
    built = build(settings)
    with pytest.raises(Conflict, match="no process is at it"):
        control.pause(settings)
    assert control.abort(settings).status == "dropped"
    assert not rows(settings, "SELECT 1 FROM pg_namespace WHERE nspname = %s", [built.schema])
    with pytest.raises(NotFound, match="rebuild"):
        control.abort(settings)


def test_second_rebuild_is_refused(settings: Settings, told: list[DecisionMade]) -> None:
    """Two processes never write one generation."""
    with control.working(settings), pytest.raises(Conflict, match="another process"):
        build(settings)


def test_live_generation_goes_on_meanwhile(
    settings: Settings, journal: Journal, told: list[DecisionMade]
) -> None:
    """What is decided during a rebuild is read at once, and is in the new generation too."""
    late = history()
    seen: list[str] = []

    def decide(progress: Progress) -> None:
        if not seen:
            journal.record(late)
            until_projected(settings, late)
        seen.append(progress.phase)

    built = rebuild.rebuild(settings, None, decide, threading.Event())
    told += late
    assert built.decisions == len(told)
    assert verify(settings, None, 10).same


def test_rebuild_from_a_time_copies_what_was_before(
    settings: Settings, journal: Journal, told: list[DecisionMade]
) -> None:
    """Only what was decided since is folded again; the whole is the same as the live generation."""
    cut = rows(settings, "SELECT clock_timestamp() AS now")[0]["now"]
    later = cut + timedelta(seconds=1)
    after = [replace(made, decided_at=later) for made in growing([told[0].workflow_id, str(uuid4())], 9)]
    journal.record(after)
    until_projected(settings, after[1:])
    built = build(settings, since=cut)
    told += after
    assert built.decisions == len(after)
    assert verify(settings, None, 10).same
    with pytest.raises(Conflict, match="in work from"):
        build(settings, since=cut + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(b"no frame", "no frame"), (None, "'status': 'running'")],
    ids=["unreadable", "refused by Postgres"],
)
def test_a_fold_error_stops_the_generation_and_nothing_else(
    settings: Settings, value: bytes | None, shown: str
) -> None:
    """The error shows the event and its place; all before it is written, and the projector goes past it. So
    does the rebuild, when it is told to leave out that very decision."""
    alone = another_namespace(settings)
    before, after = history(), history()
    with journal_of(alone) as journal, projector(alone):
        for made in before:
            journal.append(b"k", journal.encoded(made), partition=1)
        poison = journal.encoded(decision(1, workflow_id="no-uuid", status="running"))
        journal.append(b"culprit", value or poison, partition=1)
        for made in after:
            journal.append(b"k", journal.encoded(made), partition=1)
        journal.flush()
        with pytest.raises(FoldError) as raised:
            build(alone)
        place = rf"{alone.namespace}.decisions [1] offset 3 key culprit: "
        assert str(raised.value).startswith(place)
        assert shown in str(raised.value)
        failed = last_generation(settings)
        assert (failed["status"], failed["error"]) == ("failed", str(raised.value))
        assert held(settings, schema_of(failed["generation"])) == expected(before)
        offsets = rows(
            settings,
            "SELECT next_offset FROM read_model.generation_offsets"
            " WHERE generation = %s AND topic = %s AND partition = 1",
            [failed["generation"], journal.topic],
        )
        assert offsets == [{"next_offset": 3}]
        until_projected(settings, after)
        with pytest.raises(FoldError):
            build(alone)
        assert last_generation(settings)["decisions"] == 3
        with pytest.raises(Conflict, match="stands at offset 3"):
            build(alone, skip=(1, 4))
        built = build(alone, skip=(1, 3))
        assert (built.status, built.decisions) == ("ready", 6)
        assert held(settings, built.schema) == expected(before + after)
