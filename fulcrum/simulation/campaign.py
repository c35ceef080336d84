"""Many worlds, one after the other: what came of them, or how to see again what went wrong."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fulcrum.simulation.environment import Happened
from fulcrum.simulation.faults import Faults
from fulcrum.simulation.invariants import Violation
from fulcrum.simulation.world import World

#: Workflows of one world: enough to get in each other's way, few enough to replay at once.
WORLD = 100


@dataclass(frozen=True, slots=True)
class Failure:
    """The first violation, with the world's own seed and the schedule that led there."""

    invariant: str
    detail: str
    workflow_id: str | None
    seed: int
    workflows: int
    faults: Faults
    schedule: tuple[Happened, ...]
    definitions: tuple[str, ...] = ()


@dataclass(slots=True)
class Result:
    """What happened in all worlds. ``fingerprint`` is equal for equal runs."""

    workflows: int = 0
    worlds: int = 0
    steps: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    fingerprint: str = ""
    failure: Failure | None = None


def run_worlds(seed: int, workflows: int, faults: Faults, definitions: Sequence[str] = ()) -> Result:
    """Run ``workflows`` in worlds of ``WORLD``, up to the first violation; of all definitions, or of some."""
    result = Result()
    digest = hashlib.sha256()
    for world_seed, size in worlds(seed, workflows):
        world = World(world_seed, size, faults, definitions)
        try:
            world.run()
        except Violation as violation:
            story = tuple(world.story(violation.workflow_id))
            told = violation.invariant, violation.detail, violation.workflow_id
            result.failure = Failure(*told, world_seed, size, faults, story, tuple(definitions))
        result.worlds += 1
        result.workflows += size
        result.steps += world.env.steps
        result.counts += world.env.counts
        # Whatever went otherwise has drawn otherwise.
        digest.update(f"{world.env.steps} {world.env.now!r} {world.env.random.random()!r}\n".encode())
        if result.failure is not None:
            break
    result.fingerprint = digest.hexdigest()[:16]
    return result


def worlds(seed: int, workflows: int) -> Iterator[tuple[int, int]]:
    """The seed and the size of each world. The first one has ``seed`` itself, so a world alone can be run."""
    for number, start in enumerate(range(0, workflows, WORLD)):
        derived = int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:6])
        yield derived if number else seed, min(WORLD, workflows - start)
