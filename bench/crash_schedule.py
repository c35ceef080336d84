"""What is hit, how and when? A seeded schedule in which everything has its turn before anything has its next.

Pure: the same seed gives the same schedule.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from fulcrum.crashpoint import POINTS

#: Those that the load keeps busy.
ROLES = (
    "intake",
    "agents",
    "payment",
    "inventory",
    "warehouse",
    "courier",
    "projector",
    "psp-simulator",
    "warehouse-simulator",
    "courier-simulator",
)
SERVERS = ("kafka", "rabbitmq", "postgres", "redis", "registry")
#: The second worker of the agents, which comes and goes.
SECOND = "agents-2"

#: Seconds after which Kafka gives a silent worker's partitions to others, and a little more.
_PAST_THE_SESSION = 17.0
_LONGEST_PAUSE, _LONGEST_AWAY, _LONGEST_WAIT = 6.0, 2.0, 2.5
#: A point is left alone up to so many times before the process dies there.
_MOST_PASSES = 8
#: The share of hits after which everything comes to rest before the next.
_CALM = 0.7
#: Points that a process comes by once in its life, or that need a second worker to be reached.
ONCE = frozenset({"table.recovered", "partitions.revoked"})


class Way(StrEnum):
    """How a target is hit."""

    KILL = "SIGKILL"
    TWICE = "SIGKILL, and again while it recovers"
    TERM = "SIGTERM"
    PAUSE = "SIGSTOP, SIGCONT"
    LONG_PAUSE = "SIGSTOP past its session, SIGCONT"
    POINT = "SIGKILL at a point"
    JOIN = "joins"
    LEAVE = "leaves"


@dataclass(frozen=True, slots=True)
class Deed:
    """One hit. ``wait``: seconds before it; ``seconds``: how long a target is paused or kept away; ``point``
    and ``nth``: where a process dies. ``calm``: the next hit waits until everything from before this one has
    ended; otherwise it may fall into the recovery."""

    target: str
    way: Way
    wait: float = 0.0
    seconds: float = 0.0
    point: str | None = None
    nth: int = 1
    calm: bool = True

    @property
    def name(self) -> str:
        """The way, as the matrix shows it."""
        return f"{self.way}: {self.point}" if self.point else str(self.way)


def deck(chance: random.Random, *, second: bool) -> list[Deed]:
    """Everything once, in random order; with ``second``, between the coming and the going of that worker."""
    deeds = [Deed(target, way) for target in (*ROLES, *SERVERS) for way in (Way.KILL, Way.TERM, Way.PAUSE)]
    deeds += [
        Deed(role, Way.TWICE)
        for role in ("agents", "projector", "payment", "inventory", "warehouse", "courier")
    ]
    deeds += [
        Deed(role, Way.POINT, point=point)
        for point, (role, _) in POINTS.items()
        if role in ROLES and point != "partitions.revoked"
    ]
    if second:
        deeds += [Deed(SECOND, way) for way in (Way.KILL, Way.TERM, Way.PAUSE, Way.TWICE)]
        deeds += [Deed(worker, Way.LONG_PAUSE) for worker in ("agents", SECOND)]
    chance.shuffle(deeds)
    drawn = [_drawn(deed, chance) for deed in deeds]
    if not second:
        return drawn
    # A worker dies at this point only while another one joins, so the deed brings that one, and leaves it.
    first = Deed("agents", Way.POINT, point="partitions.revoked") if chance.random() < 0.5 else None
    return [first or Deed(SECOND, Way.JOIN), *drawn, Deed(SECOND, Way.LEAVE)]


def _drawn(deed: Deed, chance: random.Random) -> Deed:
    longest = _LONGEST_AWAY if deed.way is not Way.PAUSE else _LONGEST_PAUSE
    seconds = _PAST_THE_SESSION if deed.way is Way.LONG_PAUSE else round(chance.uniform(0.2, longest), 2)
    if deed.target in SERVERS and deed.way is not Way.PAUSE and chance.random() < 0.5:
        seconds = 0.0
    nth = 1 if deed.point in ONCE else chance.randint(1, _MOST_PASSES)
    return Deed(
        deed.target,
        deed.way,
        round(chance.uniform(0, _LONGEST_WAIT), 2),
        seconds,
        deed.point,
        nth if deed.point else 1,
        calm=chance.random() < _CALM,
    )


def schedule(seed: int) -> Iterator[Deed]:
    """Deeds without end: a deck with one worker of the agents, one with two, and so on."""
    chance = random.Random(seed)
    second = False
    while True:
        yield from deck(chance, second=second)
        second = not second
