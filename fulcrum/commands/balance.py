"""Is every command that is overdue somewhere? Pure arithmetic.

A queue cannot be searched for an id without taking its messages out, so ids are set against numbers: so many
commands are neither handled nor parked, so many messages lie on queues. Ids beyond the messages are lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from fulcrum.commands.depth import Depth


@dataclass(frozen=True, slots=True)
class Depths:
    """Messages that wait: ``own`` on a service's queue and its parking queue, ``retry`` on the retry queues,
    which all services share."""

    own: Mapping[str, int]
    retry: int

    @classmethod
    def of(cls, queues: Iterable[Depth]) -> Self:
        """The sums of what waits on ``queues``."""
        own: dict[str, int] = {}
        retry = 0
        for each in queues:
            if each.service is None:
                retry += each.ready
            else:
                own[each.service] = own.get(each.service, 0) + each.ready
        return cls(own, retry)


def missing(overdue: Mapping[str, int], depths: Depths) -> dict[str, int]:
    """How many of the ``overdue`` commands of each service cannot be on any queue.

    The sum is the least number that is lost: a message may be that of a younger command, or a second copy.
    Which service lost them is a guess while retries wait: they count for the first service first.
    """
    retries = depths.retry
    lost: dict[str, int] = {}
    for service, count in overdue.items():
        beyond = max(0, count - depths.own.get(service, 0))
        here = min(beyond, retries)
        retries -= here
        lost[service] = beyond - here
    return lost


class Steady:
    """The least that several looks in a row have seen.

    One look is not enough: a message that moves from one queue to another between two counts is on none, and
    one that a worker has in hand is not counted by the broker.
    """

    def __init__(self, looks: int) -> None:
        self._seen: deque[Mapping[str, int]] = deque(maxlen=looks)

    def after(self, seen: Mapping[str, int]) -> dict[str, int]:
        """What is steadily missing, by service, now that ``seen`` was seen; nothing before enough looks."""
        self._seen.append(seen)
        if len(self._seen) < (self._seen.maxlen or 1):
            return dict.fromkeys(seen, 0)
        return {service: min(each.get(service, 0) for each in self._seen) for service in seen}
