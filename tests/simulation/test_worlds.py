"""Does the saga keep its promises whatever happens to it?"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fulcrum.saga import verbs
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.migrate import migrate
from fulcrum.saga.step import Definition
from fulcrum.saga.verbs import MIGRATE, Verb
from fulcrum.simulation.campaign import Result, run_worlds, worlds
from fulcrum.simulation.faults import FAULTS, USUAL, Faults, parse
from fulcrum.simulation.world import World


def told(result: Result) -> str:
    """What a failing run says."""
    failure = result.failure
    if failure is None:
        return ""
    story = "\n".join(str(happened) for happened in failure.schedule)
    return f"{failure.invariant}: {failure.detail}\n{story}\nseed {failure.seed}, {failure.workflows}"


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_every_invariant_holds_under_all_faults(seed: int) -> None:
    """Some hundred workflows a seed, through everything that may go wrong, and every one of them ends."""
    result = run_worlds(seed, 500, parse("all"))

    assert result.failure is None, told(result)
    ends = {name: count for name, count in result.counts.items() if name.startswith("ended.")}
    assert sum(ends.values()) == 500
    assert min(ends["ended.completed"], ends["ended.cancelled"]) > 50


def test_every_invariant_holds_where_processes_die_all_the_time() -> None:
    """Crashes between any two steps, and people who cancel meanwhile."""
    result = run_worlds(21, 600, parse("crash=0.02,cancel=0.7,duplicate,reorder"))

    assert result.failure is None, told(result)
    assert result.counts["fault.crash"] > 80


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_without_faults_every_workflow_completes_and_nothing_is_repeated(definition: str) -> None:
    """What the faults are measured against: a command a step, and a decision more."""
    result = run_worlds(1, 200, parse("none"), (definition,))
    steps = len(DEFINITIONS[definition].steps)

    assert result.failure is None, told(result)
    assert result.counts["ended.completed"] == 200
    assert (result.counts["decisions"], result.counts["commands"]) == (200 * (steps + 1), 200 * steps)
    assert not [name for name in result.counts if name.startswith(("fault.", "duplicates."))]


@pytest.mark.parametrize("fault", USUAL)
def test_each_fault_strikes(fault: str) -> None:
    """A fault that never happens would prove nothing."""
    rate = 1.0 if fault in ("clock", "silence") else max(FAULTS[fault].rate, 0.05)
    # Money is given back only where something else goes wrong.
    besides = {"cancel": 0.5} if fault == "unrefunded" else {}
    result = run_worlds(3, 100, Faults({**besides, fault: rate}, fault))

    assert result.failure is None, told(result)
    assert result.counts[f"fault.{fault}"] > 0


def test_every_invariant_holds_whatever_operators_ask_for() -> None:
    """Every verb, at any moment, about any step, amid all faults; what was left standing is shown."""
    result = run_worlds(31, 1000, parse("all,operator=0.9,parked=0.02"))

    assert result.failure is None, told(result)
    asked = {name for name, count in result.counts.items() if name.startswith("asked.") and count > 50}
    assert asked == {f"asked.{verb}" for verb in (*Verb, MIGRATE)}
    assert min(result.counts["ended.terminated"], result.counts["terminated.left"]) > 20
    assert result.counts["passed_over"] > 0


def test_every_invariant_holds_of_the_whole_fulfilment() -> None:
    """Short picks, lost parcels, refused refunds, holds and intercepts, amid everything else."""
    faults = "all,operator=0.5,cancel=0.5,hold=0.4,parcel=0.6,unrefunded=0.4,short=0.4"
    result = run_worlds(41, 1000, parse(faults), ("fulfillment.v2",))

    assert result.failure is None, told(result)
    counted = ("ended.completed", "ended.cancelled", "undo_refused", "intercepted.cancelled")
    assert min(result.counts[name] for name in counted) > 10, result.counts
    assert result.counts["intercepted.completed"] > 0


def test_runs_move_to_another_definition_amid_all_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that packs with more patience: some have not begun to pack, and go on under it."""
    rows = DEFINITIONS["fulfillment.v2"].steps
    patient = replace(rows[2], deadline=timedelta(hours=2))
    other = Definition("fulfillment.patient", (*rows[:2], patient, *rows[3:]))
    monkeypatch.setitem(DEFINITIONS, other.name, other)
    moved: Counter[str | None] = Counter()

    def counted(*given: Any) -> Any:
        made = migrate(*given)
        moved[made if isinstance(made, str) else None] += 1
        return made

    monkeypatch.setattr(verbs, "migrate", counted)
    result = run_worlds(7, 1000, parse("all,operator=0.9"), ("fulfillment.v2", other.name))

    assert result.failure is None, told(result)
    assert min(moved[None], moved["past_the_difference"]) > 10, moved


def test_an_undo_that_is_never_answered_is_visible() -> None:
    """Where commands are parked for good, runs need attention and say why."""
    result = run_worlds(5, 300, parse("parked=0.1,cancel=0.8"))

    assert result.failure is None, told(result)
    assert result.counts["ended.needs_attention"] > 0


def test_the_same_seed_gives_the_same_run() -> None:
    """Byte for byte, so that what failed can be seen again."""
    schedules = []
    for _ in range(2):
        world = World(17, 100, parse("all"))
        world.run()
        schedules.append("\n".join(str(happened) for happened in world.story(None)))

    assert schedules[0] == schedules[1]
    assert run_worlds(18, 200, parse("all")) == run_worlds(18, 200, parse("all"))


def test_another_seed_gives_another_run() -> None:
    """Otherwise many seeds would show no more than one."""
    faults = parse("all")
    assert run_worlds(1, 100, faults).fingerprint != run_worlds(2, 100, faults).fingerprint


def test_each_world_can_be_run_alone() -> None:
    """The seed of a later world, given by itself, is that world again."""
    seeds = list(worlds(9, 250))

    assert [size for _, size in seeds] == [100, 100, 50]
    assert list(worlds(*seeds[2])) == [seeds[2]]
