"""What the counts of an operation say, how its plan adds up, and when its next message may leave."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulcrum.operations.accounting import ITEM_STATES, PENDING, Counts, Gate, canary_gate, over_ratio
from fulcrum.operations.pace import Pace
from fulcrum.operations.plan import BEYOND_LIMIT, MOST, plan_of
from fulcrum.operations.requests import Request, edited_id, operation_id
from fulcrum.saga.messages import SERVICES
from fulcrum.store.relations import SCHEMA_OF, SERVICE_SCHEMAS

MOVES = st.lists(st.tuples(st.sampled_from(ITEM_STATES), st.sampled_from(ITEM_STATES)))


@given(st.integers(0, 20), MOVES)
def test_counts_always_add_up(pending: int, moves: list[tuple[str, str]]) -> None:
    """Whatever items become, ``total = succeeded + failed + skipped + pending``, and none is negative."""
    counts = Counts(pending=pending)
    for before, after in moves:
        if getattr(counts, before):
            counts = counts.moved(before, after)
        else:
            with pytest.raises(ValueError, match="0 items"):
                counts.moved(before, after)
        assert counts.total == pending
        assert min(getattr(counts, state) for state in ITEM_STATES) >= 0


@given(st.dictionaries(st.sampled_from([None, "a", "b"]), st.integers(0, 50)), st.none() | st.integers(1, 60))
def test_plan_adds_up(found: dict[str | None, int], limit: int | None) -> None:
    """``matched = included + sum(excluded)``; nothing is excluded without a reason, or zero times."""
    plan = plan_of(found, limit)
    assert plan.matched == plan.included + sum(plan.excluded.values()) == sum(found.values())
    assert plan.included <= (limit or MOST)
    assert all(plan.excluded.values())


def test_what_is_beyond_the_limit_is_told() -> None:
    """A limit leaves some out, and says how many."""
    assert plan_of({None: 10, "already discarded": 2}, 3).excluded == {
        BEYOND_LIMIT: 7,
        "already discarded": 2,
    }
    assert plan_of({None: MOST + 1}, None).excluded == {BEYOND_LIMIT: 1}


@pytest.mark.parametrize(
    ("counts", "ratio", "over"),
    [
        (Counts(succeeded=5, failed=5), None, False),
        (Counts(pending=9, failed=4), 0.1, False),
        (Counts(pending=9, failed=5), 0.1, True),
        (Counts(succeeded=9, failed=1), 0.1, False),
        (Counts(succeeded=8, failed=2), 0.1, True),
        (Counts(failed=2), 0.5, True),
        (Counts(pending=9, succeeded=4, failed=1), 0.0, True),
    ],
)
def test_ratio_counts_what_was_judged(counts: Counts, ratio: float | None, over: bool) -> None:
    """Skipped and pending items say nothing; the first few do not either, unless they are all there is."""
    assert over_ratio(counts, ratio) is over


@pytest.mark.parametrize(
    ("failed", "unseen", "unseeable", "over", "gate"),
    [
        (0, 0, 0, False, Gate.OPEN),
        (1, 5, 5, False, Gate.STOP),
        (0, 1, 0, False, Gate.WAIT),
        (0, 1, 0, True, Gate.ASK),
        (0, 0, 1, False, Gate.WAIT),
        (0, 0, 1, True, Gate.OPEN),
        (0, 1, 1, True, Gate.ASK),
    ],
)
def test_canaries_let_the_rest_follow_or_not(
    failed: int, unseen: int, unseeable: int, over: bool, gate: Gate
) -> None:
    """One failure stops; a missing outcome is waited for, and then a person is asked."""
    assert canary_gate(failed, unseen, unseeable, over=over) is gate


@given(st.floats(0.1, 100), st.lists(st.floats(0, 5), max_size=30))
def test_pace_is_never_exceeded(rate: float, idle: list[float]) -> None:
    """Two messages never leave closer together than the rate says, and a pause is not made up for."""
    now = 0.0
    pace = Pace(rate, lambda: now)
    left: list[float] = []
    for seconds in idle:
        now += seconds
        now += pace.left()
        assert pace.left() == pytest.approx(0, abs=1e-9)
        left.append(now)
        pace.went()
    gaps = [later - earlier for earlier, later in pairwise(left)]
    assert all(gap >= 1 / rate - 1e-6 for gap in gaps)


def test_no_rate_means_no_waiting() -> None:
    """Without a rate a message leaves at once."""
    pace = Pace(None, lambda: 0.0)
    pace.went()
    assert pace.left() == 0


def test_ids_are_computed() -> None:
    """A key makes one operation, and an operation makes one edited message of each."""
    assert operation_id("k") == operation_id("k") != operation_id("l")
    assert operation_id(None) != operation_id(None)
    operation = operation_id("k")
    assert edited_id(operation, "p") == edited_id(operation, "p") != edited_id(operation, "q")


def test_requests_are_told_apart_by_all_that_is_asked() -> None:
    """Another limit or reason is another request."""
    base = Request("replay", "ana", "x")
    others = [
        Request("replay", "ana", "y"),
        Request("discard", "ana", "x"),
        Request("replay", "ana", "x", limit=1),
    ]
    assert len({request.fingerprint() for request in [base, *others]}) == 4
    assert base.fingerprint() == Request("replay", "ana", "x").fingerprint()


def test_every_service_has_an_inbox_to_look_into() -> None:
    """What became of a command can be seen for every service there is."""
    assert set(SCHEMA_OF) == set(SERVICES)
    assert set(SCHEMA_OF.values()) <= set(SERVICE_SCHEMAS)
    assert PENDING in ITEM_STATES
