"""Where may this process die on purpose, so that what a crash leaves behind is tried and not guessed?

``FULCRUM_CRASH_AT=<point>[:<nth>]`` kills the process with SIGKILL the ``nth`` time (default: the first) it
comes to the point. It is read once, when this module is imported; unset, a point costs one call that does
nothing. It is for tests and for ``make crash``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping

from fulcrum.errors import Misconfigured

VARIABLE = "FULCRUM_CRASH_AT"

#: Each point: the role whose process comes by, and what has just happened there.
POINTS: Mapping[str, tuple[str, str]] = {
    "intake.committed": ("intake", "an intent is committed, and its client not answered"),
    "event.received": ("agents", "an event was taken, and nothing was done about it"),
    "decision.sent": (
        "agents",
        "the state is in Kafka, the decision on its way, the event not finished",
    ),
    "command.published": ("agents", "RabbitMQ has confirmed a command, its decision is not finished"),
    "partitions.revoked": ("agents", "a rebalance takes partitions away, nothing is committed yet"),
    "table.recovered": ("agents", "the table is recovered, and no partition is released yet"),
    "decisions.stored": ("projector", "decisions are in Postgres, neither cached nor finished"),
    "command.received": ("payment", "commands were taken, and nothing was done about them"),
    "provider.asking": ("payment", "the intent to ask the provider is stored, and it is not asked yet"),
    "provider.asked": ("payment", "the provider has answered, and nothing of it is stored"),
    "floor.asking": ("warehouse", "a pack job's next step is stored, and the floor is not asked yet"),
    "floor.asked": ("warehouse", "the floor has answered, and nothing of it is stored"),
    "courier.asking": ("courier", "the intent to ask the courier is stored, and it is not asked yet"),
    "courier.asked": ("courier", "the courier has answered, and nothing of it is stored"),
    "update.stored": ("courier", "an update of the courier is committed, and its sender not answered"),
    "command.committed": ("inventory", "commands took effect, and are not acknowledged"),
    "outbox.sent": ("inventory", "Kafka has acknowledged outbox rows, and they are not deleted"),
}


def _ignore(point: str) -> None:
    """Nothing is to happen anywhere."""


def armed(value: str | None) -> Callable[[str], None]:
    """What ``reached`` is under this value of the variable. Misconfigured when it names no point."""
    if not value:
        return _ignore
    wanted, _, number = value.partition(":")
    if wanted not in POINTS or not (number or "1").isdecimal() or int(number or "1") < 1:
        raise Misconfigured(
            f"{VARIABLE}={value!r}: give <point> or <point>:<nth>; the points are {', '.join(POINTS)}"
        )
    left = int(number or "1")

    def reached(point: str) -> None:
        nonlocal left
        if point != wanted:
            return
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


reached: Callable[[str], None] = armed(os.environ.get(VARIABLE))
