"""What becomes of a command whose handling failed: again, later, or parked. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from fulcrum.errors import Corrupt, Rejected, Retryable, Unavailable
from fulcrum.store.failures import DatabaseDown, NoSessionFree, SerializationFailure


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


class Kind(enum.StrEnum):
    """What is wrong, as told by the type of an error."""

    #: Nothing is wrong with the command: the same work may succeed later.
    TRANSIENT = "transient"
    #: The command is wrong and stays wrong.
    PERMANENT = "permanent"
    #: No reader can use the message.
    POISON = "poison"
    #: Nobody raised this on purpose; another version of the code may succeed.
    BUG = "bug"


def kind_of(error: BaseException, permanent: tuple[type[BaseException], ...] = ()) -> Kind:
    """The kind of ``error``; a policy may have more ``permanent`` ones."""
    if isinstance(error, (Rejected, *permanent)):
        return Kind.PERMANENT
    if isinstance(error, Retryable):
        return Kind.TRANSIENT
    if isinstance(error, Corrupt):
        return Kind.POISON
    return Kind.BUG


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a command is tried: at most ``attempts`` times, after attempt n on the n-th of ``levels``.

    Attempts beyond the levels wait the last one. ``permanent`` are further errors that a retry of this
    command cannot help, beside those that are permanent for every command.
    """

    attempts: int
    levels: tuple[Level, ...] = LEVELS
    permanent: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if self.attempts < 1 or not self.levels:
            raise ValueError(f"attempts={self.attempts}, levels={self.levels}: at least one of each")


def level_after(attempt: int, chance: float, levels: tuple[Level, ...] = LEVELS) -> Level:
    """How long to wait after failed attempt ``attempt`` (from 1).

    ``chance`` in [0, 1) spreads commands that failed together over neighbouring levels.
    """
    step = -1 if chance < _JITTER else 1 if chance >= 1 - _JITTER else 0
    place = min(attempt, len(levels)) - 1 + step
    return levels[max(0, min(place, len(levels) - 1))]


@dataclass(frozen=True, slots=True)
class Park:
    """Give up: ``reason`` is ``corrupt``, ``rejected`` or ``exhausted``."""

    reason: str


def verdict(
    error: BaseException, attempt: int, policy: RetryPolicy, chance: float, limit: int | None = None
) -> Level | Park:
    """The delay before the next attempt, or Park when a retry cannot help or was tried often enough.

    ``limit`` retries are allowed in place of what the policy says.
    """
    kind = kind_of(error, policy.permanent)
    if kind is Kind.POISON:
        return Park("corrupt")
    if kind is Kind.PERMANENT:
        return Park("rejected")
    most = policy.attempts if limit is None else limit + 1
    return Park("exhausted") if attempt >= most else level_after(attempt, chance, policy.levels)


class Next(enum.Enum):
    """What to do with a batch that failed as a whole."""

    AGAIN = "again"
    SPLIT = "split"
    JUDGE = "judge"


#: Tries of a batch in place when its transactions stand in each other's way, when the outside world is away,
#: and when it loses its connection although the database answers others: such a statement may bring its own
#: backend down, and must not hold up its queue for ever.
_TRIES_IN_THE_WAY = 6
_TRIES_UNAVAILABLE = 3
_TRIES_WITHOUT_CONNECTION = 6


def after_failure(error: BaseException, size: int, tries: int) -> Next:
    """Whether a batch of ``size`` that failed ``tries`` times goes again as it is, in halves, or is judged.

    Nothing is charged for what is nobody's fault: Postgres away, every session in use, or transactions in
    each other's way. Postgres being away is waited out before each try, as long as it takes; ``tries`` counts
    only those for which it answered just before. A single message that finds the outside world away is judged
    at once, so that others may pass it.
    """
    if isinstance(error, NoSessionFree):
        return Next.AGAIN
    patience = 0
    if isinstance(error, DatabaseDown):
        patience = _TRIES_WITHOUT_CONNECTION
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
    return kind_of(error) is Kind.BUG
