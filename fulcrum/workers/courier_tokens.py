"""Which address makes the simulated courier do what? Pure.

The beginning of ``ship_to`` is a script: words, each with ``-`` behind it, before the address itself. Several
may stand one behind another, as in ``silent-lost-Main Street 1``.

==================== ===============================================================================
(none)               delivered
``returned``         nobody is at home: comes back undamaged
``returned_damaged`` comes back, and nothing in it can be sold again
``lost``             is never seen again
``exception``        waits for something on its way, and is delivered then
``stays_STATUS``     moves as far as that status (``booked``, ``in_transit`` …) and no further
``unknown``          no such address: refused at booking
``nocancel``         is not stopped once it was picked up
``silent``           sends no webhooks
``twice``            sends each webhook twice
``backwards``        sends its webhooks when all has happened, the last one first
``replayed``         sends each webhook once more, signed an hour ago
``busy_N``           answers 503 to the first N bookings and does nothing
``mute``             books at the first request and never answers that one
==================== ===============================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fulcrum.workers.tracking import Status

_WORD = re.compile(
    r"(returned_damaged|returned|lost|exception|unknown|nocancel|silent|twice|backwards|replayed|mute"
    r"|stays_(?:booked|picked_up|in_transit|out_for_delivery|exception)|busy_\d{1,4})-"
)
_WAY = (Status.PICKED_UP, Status.IN_TRANSIT, Status.OUT_FOR_DELIVERY)
_ENDINGS = {
    "returned": (*_WAY, Status.RETURNED),
    "returned_damaged": (*_WAY, Status.RETURNED),
    "lost": (Status.PICKED_UP, Status.IN_TRANSIT, Status.LOST),
    "exception": (
        Status.PICKED_UP,
        Status.IN_TRANSIT,
        Status.EXCEPTION,
        Status.OUT_FOR_DELIVERY,
        Status.DELIVERED,
    ),
}


@dataclass(frozen=True, slots=True)
class Script:
    """What becomes of a shipment: ``way`` is what follows ``booked``. ``busy`` counts refused requests."""

    way: tuple[Status, ...]
    undamaged: bool = True
    refused: bool = False
    stoppable: bool = True
    silent: bool = False
    twice: bool = False
    backwards: bool = False
    replayed: bool = False
    mute: bool = False
    busy: int = 0


def script(ship_to: str) -> Script:
    """The script of an address."""
    words = set()
    while (match := _WORD.match(ship_to)) is not None:
        words.add(match[1])
        ship_to = ship_to[match.end() :]
    way = next((_ENDINGS[word] for word in sorted(words) if word in _ENDINGS), (*_WAY, Status.DELIVERED))
    for word in words:
        if word.startswith("stays_"):
            last = Status(word.removeprefix("stays_"))
            way = way[: way.index(last) + 1] if last in way else ()
    return Script(
        way=way,
        undamaged="returned_damaged" not in words,
        refused="unknown" in words,
        stoppable="nocancel" not in words,
        silent="silent" in words,
        twice="twice" in words,
        backwards="backwards" in words,
        replayed="replayed" in words,
        mute="mute" in words,
        busy=max((int(word[5:]) for word in words if word.startswith("busy_")), default=0),
    )
