"""What becomes of a command that failed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulcrum.commands.retry import (
    LEVELS,
    Level,
    Next,
    Park,
    after_failure,
    is_bug,
    level_after,
    pause_before_try,
    verdict,
)
from fulcrum.commands.topology import retry_milliseconds
from fulcrum.errors import Conflict, Corrupt, NotFound, OutcomeUnknown, Rejected, Unavailable
from fulcrum.store.database import DatabaseDown, SerializationFailure

MIDDLE = 0.5


def test_delay_grows_with_each_attempt_and_then_stays() -> None:
    """Without jitter, attempt n waits level n, and attempts beyond the last level wait that one."""
    assert [level_after(n, MIDDLE).name for n in range(1, 9)] == [
        "1s",
        "5s",
        "30s",
        "2m",
        "10m",
        "1h",
        "1h",
        "1h",
    ]


@given(attempt=st.integers(1, 60), chance=st.floats(0, 1, exclude_max=True))
def test_jitter_stays_between_neighbours(attempt: int, chance: float) -> None:
    """Whatever the chance, a command waits its level or a neighbouring one."""
    own = LEVELS.index(level_after(attempt, MIDDLE))
    assert abs(LEVELS.index(level_after(attempt, chance)) - own) <= 1


def test_jitter_spreads_over_three_levels() -> None:
    """Commands that fail together come back on the level before, the same and the one after."""
    names = {level_after(3, chance).name for chance in (0.0, 0.1, 0.3, 0.6, 0.8, 0.99)}
    assert names == {"5s", "30s", "2m"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Corrupt("x"), "corrupt"),
        (Rejected("x"), "rejected"),
        (Conflict("x"), "rejected"),
        (NotFound("x"), "rejected"),
    ],
)
def test_what_cannot_help_is_parked_at_once(error: Exception, reason: str) -> None:
    """A corrupt or rejected command is parked at its first attempt."""
    assert verdict(error, attempt=1, limit=6, chance=MIDDLE) == Park(reason)


@pytest.mark.parametrize("error", [Unavailable("x"), OutcomeUnknown("x"), ValueError("a bug")])
def test_retries_are_as_many_as_the_limit(error: Exception) -> None:
    """With a limit of 2, attempts 1 and 2 are retried and attempt 3 is parked, a bug like an outage."""
    decided = [verdict(error, attempt, limit=2, chance=MIDDLE) for attempt in (1, 2, 3)]
    assert decided == [LEVELS[0], LEVELS[1], Park("exhausted")]


def test_limit_zero_parks_the_first_failure() -> None:
    """With no retries allowed, the first failure is the last."""
    assert verdict(Unavailable("x"), attempt=1, limit=0, chance=MIDDLE) == Park("exhausted")


@pytest.mark.parametrize("size", [1, 2, 50])
def test_database_away_charges_nobody(size: int) -> None:
    """While Postgres is away a batch of any size goes again as it is, for a long while but not for ever."""
    assert after_failure(DatabaseDown("x"), size, tries=0) is Next.AGAIN
    assert after_failure(DatabaseDown("x"), size, tries=19) is Next.AGAIN
    assert after_failure(DatabaseDown("x"), size, tries=20) is (Next.SPLIT if size > 1 else Next.JUDGE)


def test_conflicts_are_tried_again_in_place() -> None:
    """A serialization failure is tried again at once, also for a single command, and then judged."""
    assert after_failure(SerializationFailure("x"), 1, tries=0) is Next.AGAIN
    assert after_failure(SerializationFailure("x"), 1, tries=6) is Next.JUDGE
    assert after_failure(SerializationFailure("x"), 8, tries=6) is Next.SPLIT


def test_outside_world_away_holds_up_nobody_else() -> None:
    """A single command that meets an outage outside is judged at once; a batch is tried again and split."""
    assert after_failure(Unavailable("x"), 1, tries=0) is Next.JUDGE
    assert after_failure(Unavailable("x"), 2, tries=0) is Next.AGAIN
    assert after_failure(Unavailable("x"), 2, tries=3) is Next.SPLIT


@pytest.mark.parametrize("error", [ValueError("x"), Corrupt("x"), Rejected("x"), OutcomeUnknown("x")])
def test_bad_data_is_searched_by_halves(error: Exception) -> None:
    """A batch that fails on data is split until the one that fails stands alone."""
    assert after_failure(error, 50, tries=0) is Next.SPLIT
    assert after_failure(error, 1, tries=0) is Next.JUDGE


@given(tries=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_pause_is_bounded(tries: int, chance: float) -> None:
    """The pause in place is never under 25 ms and never over 5 s."""
    assert 0.025 <= pause_before_try(tries, chance) <= 5.0


def test_only_the_unexpected_is_a_bug() -> None:
    """What the code raises on purpose needs no traceback; everything else does."""
    assert is_bug(KeyError("x"))
    assert not any(is_bug(error) for error in (Unavailable("x"), Rejected("x"), Corrupt("x")))


def test_retry_unit_shrinks_every_level_but_never_to_nothing() -> None:
    """A delay is its seconds times the unit, and at least one millisecond."""
    assert [retry_milliseconds(level.seconds, 0.05) for level in LEVELS] == [
        50,
        250,
        1500,
        6000,
        30000,
        180000,
    ]
    assert retry_milliseconds(Level("1s", 1).seconds, 0.0001) == 1
