"""What becomes of a command whose handling failed: again, later, or parked. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from fulcrum.errors import Corrupt, Rejected, Retryable, Unavailable
from fulcrum.store.failures import DatabaseDown, SerializationFailure


@dataclass(frozen=True, slots=True)
class Level:
    """A fixed delay: ``seconds`` at a retry unit of one second."""

    name: str
    seconds: float


LEVELS: tuple[Level, ...] = (
    Level("1s", 1),
    Level("5s", 5),
    Level("30s", 30),
    Level("2m", 120),
    Level("10m", 600),
    Level("1h", 3600),
)
#: The share of commands that wait one level less, and the share that wait one more.
_JITTER = 0.25


def level_after(attempt: int, chance: float) -> Level:
    """How long to wait after failed attempt ``attempt`` (from 1).

    ``chance`` in [0, 1) spreads commands that failed together over neighbouring levels.
    """
    step = -1 if chance < _JITTER else 1 if chance >= 1 - _JITTER else 0
    place = min(attempt, len(LEVELS)) - 1 + step
    return LEVELS[max(0, min(place, len(LEVELS) - 1))]


@dataclass(frozen=True, slots=True)
class Park:
    """Give up: ``reason`` is ``corrupt``, ``rejected`` or ``exhausted``."""

    reason: str


def verdict(error: BaseException, attempt: int, limit: int, chance: float) -> Level | Park:
    """The delay before the next attempt, or Park after ``limit`` retries or when a retry cannot help."""
    if isinstance(error, Corrupt):
        return Park("corrupt")
    if isinstance(error, Rejected):
        return Park("rejected")
    if attempt > limit:
        return Park("exhausted")
    return level_after(attempt, chance)


class Next(enum.Enum):
    """What to do with a batch that failed as a whole."""

    AGAIN = "again"
    SPLIT = "split"
    JUDGE = "judge"


#: Tries of a batch in place. An outage takes as long as it takes, but a statement that brings its backend
#: down looks like one too, and must not hold up its queue for ever.
_TRIES_WHILE_DOWN = 20
_TRIES_IN_THE_WAY = 6
_TRIES_UNAVAILABLE = 3


def after_failure(error: BaseException, size: int, tries: int) -> Next:
    """Whether a batch of ``size`` that failed ``tries`` times goes again as it is, in halves, or is judged.

    Nothing is charged for what is nobody's fault: Postgres away, or transactions in each other's way.
    A single message that finds the outside world away is judged at once, so that others may pass it.
    """
    patience = 0
    if isinstance(error, DatabaseDown):
        patience = _TRIES_WHILE_DOWN
    elif isinstance(error, SerializationFailure):
        patience = _TRIES_IN_THE_WAY
    elif isinstance(error, Unavailable) and size > 1:
        patience = _TRIES_UNAVAILABLE
    if tries < patience:
        return Next.AGAIN
    return Next.SPLIT if size > 1 else Next.JUDGE


def pause_before_try(tries: int, chance: float) -> float:
    """Seconds before try ``tries`` (from 1) in place: from 50 ms doubling to 5 s, half by ``chance``."""
    full = min(0.05 * 2.0 ** min(tries - 1, 10), 5.0)
    return full * (0.5 + chance / 2)


def is_bug(error: BaseException) -> bool:
    """Whether nobody raised this on purpose, so that its traceback is worth keeping."""
    return not isinstance(error, (Retryable, Rejected, Corrupt))
