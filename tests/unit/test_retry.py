"""What becomes of a command that failed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulcrum.commands.policy import DEFAULT, POLICIES, policy_of
from fulcrum.commands.retry import (
    LEVELS,
    Kind,
    Level,
    Next,
    Park,
    RetryPolicy,
    after_failure,
    is_bug,
    kind_of,
    level_after,
    pause_before_try,
    verdict,
)
from fulcrum.commands.topology import retry_milliseconds
from fulcrum.errors import (
    Conflict,
    Corrupt,
    FulcrumError,
    Misconfigured,
    NotFound,
    OutcomeUnknown,
    Rejected,
    Unavailable,
)
from fulcrum.saga.messages import COMMANDS, ReserveStock
from fulcrum.store.database import DatabaseDown, NoSessionFree, SerializationFailure

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
    assert verdict(error, 1, DEFAULT, MIDDLE) == Park(reason)


@pytest.mark.parametrize("error", [Unavailable("x"), OutcomeUnknown("x"), ValueError("a bug")])
def test_attempts_are_as_many_as_the_policy_says(error: Exception) -> None:
    """With three attempts, two are retried and the third is parked, a bug like an outage."""
    decided = [verdict(error, attempt, RetryPolicy(3), MIDDLE) for attempt in (1, 2, 3)]
    assert decided == [LEVELS[0], LEVELS[1], Park("exhausted")]


@pytest.mark.parametrize(("limit", "last"), [(0, 1), (2, 3), (20, 21)])
def test_limit_takes_the_place_of_the_policy(limit: int, last: int) -> None:
    """With so many retries allowed by the setting, that attempt is the last, whatever the policy says."""
    if last > 1:
        assert verdict(Unavailable("x"), last - 1, RetryPolicy(7), MIDDLE, limit) != Park("exhausted")
    assert verdict(Unavailable("x"), last, RetryPolicy(7), MIDDLE, limit) == Park("exhausted")


def test_policy_has_its_own_delays() -> None:
    """Attempts wait the policy's levels, and beyond them the last one."""
    policy = RetryPolicy(5, levels=LEVELS[2:4])
    waits = [verdict(Unavailable("x"), attempt, policy, MIDDLE) for attempt in (1, 2, 3, 4)]
    assert waits == [LEVELS[2], LEVELS[3], LEVELS[3], LEVELS[3]]


def test_policy_may_know_more_permanent_errors() -> None:
    """An error that a policy names is parked at once, and counts as permanent."""
    policy = RetryPolicy(7, permanent=(OutcomeUnknown,))
    assert verdict(OutcomeUnknown("x"), 1, policy, MIDDLE) == Park("rejected")
    assert kind_of(OutcomeUnknown("x"), policy.permanent) is Kind.PERMANENT
    assert verdict(Unavailable("x"), 1, policy, MIDDLE) == LEVELS[0]


@pytest.mark.parametrize(("attempts", "levels"), [(0, LEVELS), (1, ())])
def test_senseless_policy_is_refused(attempts: int, levels: tuple[Level, ...]) -> None:
    """A policy without an attempt or without a delay cannot be written."""
    with pytest.raises(ValueError, match="at least one"):
        RetryPolicy(attempts, levels)


def test_policy_is_found_by_the_command() -> None:
    """What has no row, and what cannot be read, is tried like most; an undo is tried for longer."""
    assert policy_of(None) is DEFAULT
    assert policy_of(object.__new__(ReserveStock)) is DEFAULT
    assert set(POLICIES) <= set(COMMANDS)
    assert all(policy.attempts > DEFAULT.attempts for policy in POLICIES.values())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unavailable("x"), Kind.TRANSIENT),
        (OutcomeUnknown("x"), Kind.TRANSIENT),
        (SerializationFailure("x"), Kind.TRANSIENT),
        (NotFound("x"), Kind.PERMANENT),
        (Corrupt("x"), Kind.POISON),
        (KeyError("x"), Kind.BUG),
        (Misconfigured("x"), Kind.BUG),
        (FulcrumError("x"), Kind.BUG),
    ],
)
def test_kind_is_told_by_the_type_of_the_error(error: Exception, kind: Kind) -> None:
    """Retryable is transient, rejected is permanent, corrupt is poison; the rest is a bug."""
    assert kind_of(error) is kind


@pytest.mark.parametrize("size", [1, 2, 50])
def test_database_away_charges_nobody(size: int) -> None:
    """A batch goes again as it is when Postgres was away; not for ever if it answers all others meanwhile."""
    assert after_failure(DatabaseDown("x"), size, tries=0) is Next.AGAIN
    assert after_failure(DatabaseDown("x"), size, tries=5) is Next.AGAIN
    assert after_failure(DatabaseDown("x"), size, tries=6) is (Next.SPLIT if size > 1 else Next.JUDGE)


@given(size=st.integers(1, 50), tries=st.integers(0, 10_000))
def test_full_pool_charges_nobody(size: int, tries: int) -> None:
    """Who waits for a session was not tried, so it goes again however often that happens."""
    assert after_failure(NoSessionFree("x"), size, tries) is Next.AGAIN


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
