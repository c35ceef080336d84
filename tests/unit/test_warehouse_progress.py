"""What every word of the floor means to a pack job with every goal."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from packing import LINES, NOON, NUMBER, PACE, cancel, hand_over, job, pack

from fulcrum.saga import identity
from fulcrum.saga.messages import (
    HandOverRefused,
    Line,
    OrderPacked,
    OrderShort,
    PackJobCancelled,
    PackRefused,
    ParcelHandedOver,
    ShortLine,
)
from fulcrum.workers.warehouse_jobs import Goal, Learned, NoTask, PackJob, State, Task, TaskState
from fulcrum.workers.warehouse_progress import GIVEN_UP, again_in, learn

_HANDED = {"hand_over_key": hand_over().command_id, "tracking_number": NUMBER}
_CANCELLING = {"cancel_key": cancel().command_id}
_WHOLE = tuple(units for _, units in LINES)
#: A job with each goal, in the state that it has then; the first order is refused when it is short.
JOBS = {
    "pick": job(State.PICKING, Goal.PICK),
    "pack": job(State.PICKING, Goal.PACK, (1, 0)),
    "refuse": job(State.PICKING, Goal.PUT_BACK, (1, 0), reason="short"),
    "cancel": job(State.PICKING, Goal.PUT_BACK, (1, 0), **_CANCELLING),
    "cancel packed": job(State.PACKED, Goal.PUT_BACK, _WHOLE, parcels=1, **_CANCELLING),
    "cancel leaving": job(State.PACKED, Goal.PUT_BACK, _WHOLE, parcels=1, **_CANCELLING, **_HANDED),
    "hand over": job(State.PACKED, Goal.HAND_OVER, _WHOLE, parcels=1, **_HANDED),
}
WORDS: dict[str, Learned] = {
    "no task": NoTask(),
    **{state.value: Task(state, _WHOLE, 1) for state in TaskState},
    "short": Task(TaskState.SHORT, (1, 0)),
    "cancelled": Task(TaskState.CANCELLED, (0, 0)),
}
#: The state and the goal that follow, and what is told. What is not here changes neither, and tells nothing.
EXPECTED: dict[tuple[str, str], tuple[State, Goal | None, tuple[Any, ...]]] = {
    ("pick", "no task"): (State.QUEUED, Goal.PICK, ()),
    ("pick", "assigned"): (State.ASSIGNED, Goal.PICK, ()),
    ("pick", "picking"): (State.PICKING, Goal.PICK, ()),
    ("pick", "short"): (State.PICKING, Goal.PUT_BACK, ()),
    ("pick", "packed"): (State.PACKED, None, (OrderPacked,)),
    ("pick", "handed_over"): (State.PACKED, None, (OrderPacked,)),
    ("pick", "cancelled"): (State.FAILED, None, (PackRefused,)),
    ("pick", "refused"): (State.FAILED, None, (PackRefused,)),
    ("pack", "no task"): (State.QUEUED, Goal.PICK, ()),
    ("pack", "packed"): (State.PACKED, None, (OrderPacked,)),
    ("pack", "handed_over"): (State.PACKED, None, (OrderPacked,)),
    ("pack", "cancelled"): (State.FAILED, None, (PackRefused,)),
    ("pack", "refused"): (State.FAILED, None, (PackRefused,)),
    ("refuse", "no task"): (State.FAILED, None, (PackRefused,)),
    ("refuse", "cancelled"): (State.FAILED, None, (PackRefused,)),
    ("refuse", "handed_over"): (State.HANDED_OVER, None, (OrderPacked,)),
    ("cancel", "no task"): (State.CANCELLED, None, (PackRefused, PackJobCancelled)),
    ("cancel", "cancelled"): (State.CANCELLED, None, (PackRefused, PackJobCancelled)),
    ("cancel", "handed_over"): (State.HANDED_OVER, None, (OrderPacked, PackJobCancelled)),
    ("cancel packed", "no task"): (State.CANCELLED, None, (PackJobCancelled,)),
    ("cancel packed", "cancelled"): (State.CANCELLED, None, (PackJobCancelled,)),
    ("cancel packed", "handed_over"): (State.HANDED_OVER, None, (PackJobCancelled,)),
    ("cancel leaving", "no task"): (State.CANCELLED, None, (HandOverRefused, PackJobCancelled)),
    ("cancel leaving", "cancelled"): (State.CANCELLED, None, (HandOverRefused, PackJobCancelled)),
    ("cancel leaving", "handed_over"): (State.HANDED_OVER, None, (ParcelHandedOver, PackJobCancelled)),
    ("hand over", "no task"): (State.FAILED, None, (HandOverRefused,)),
    ("hand over", "handed_over"): (State.HANDED_OVER, None, (ParcelHandedOver,)),
    ("hand over", "cancelled"): (State.FAILED, None, (HandOverRefused,)),
    ("hand over", "refused"): (State.FAILED, None, (HandOverRefused,)),
}


@pytest.mark.parametrize(("name", "word"), list(product(JOBS, WORDS)))
def test_every_word_for_every_goal(name: str, word: str) -> None:
    """State, goal and answers are as the table says; numbers are dense, nothing stays picked in vain."""
    before = JOBS[name]
    after, events = learn(before, WORDS[word], NOON, PACE)
    expected = EXPECTED.get((name, word), (before.state, before.goal, ()))
    assert (after.state, after.goal, tuple(type(event) for event in events)) == expected
    assert [event.sequence for event in events] == [4 + number for number in range(len(events))]
    assert after.sequence == 3 + len(events)
    if after.state in (State.FAILED, State.CANCELLED):
        assert not any(line.picked for line in after.lines)
    for event in events:
        if isinstance(event, PackJobCancelled):
            assert event.handed_over == (after.state == State.HANDED_OVER)


def test_only_goals_are_asked_for() -> None:
    """A word about a job that is left alone changes nothing."""
    packed = job(State.PACKED, picked=_WHOLE, parcels=1)
    assert learn(packed, WORDS["cancelled"], NOON, PACE) == (packed, ())


def _with_terms(before: PackJob, *on_short: str) -> PackJob:
    lines = zip(before.lines, on_short, strict=True)
    return replace(before, lines=tuple(replace(line, on_short=each) for line, each in lines))


def test_a_line_that_may_be_left_out_is() -> None:
    """The floor is told to pack what there is, and the answer names that alone."""
    before = _with_terms(JOBS["pick"], "cancel_line", "cancel_line")
    after, events = learn(before, WORDS["short"], NOON, PACE)
    assert (after.goal, events) == (Goal.PACK, ())
    assert again_in(before, after, NOON, PACE) == timedelta(0)
    _, (packed,) = learn(after, Task(TaskState.PACKED, (1, 0), 1), NOON, PACE)
    assert isinstance(packed, OrderPacked)
    assert (packed.lines, packed.parcels) == ((Line("tea", 1),), 1)
    assert packed.pack_job_id == packed.command_id == pack().command_id


def test_a_refusal_names_what_is_short() -> None:
    """It is told once everything is put back, with what had been there."""
    after, _ = learn(JOBS["pick"], WORDS["short"], NOON, PACE)
    _, (refused,) = learn(after, WORDS["cancelled"], NOON, PACE)
    assert isinstance(refused, PackRefused)
    assert (refused.reason, refused.short) == ("short", (ShortLine("tea", 2, 1), ShortLine("pot", 1, 0)))


def test_what_the_floor_gives_up_is_refused() -> None:
    """Somebody there cancelled it: the order is refused with that reason."""
    _, (refused,) = learn(JOBS["pick"], WORDS["cancelled"], NOON, PACE)
    assert isinstance(refused, PackRefused)
    assert refused.reason == GIVEN_UP


def test_a_wait_is_told_once_and_ends() -> None:
    """The shortfall is told with its end; it is picked again until then, and once more after it."""
    before = _with_terms(JOBS["pick"], "wait", "wait")
    waits, (told,) = learn(before, WORDS["short"], NOON, PACE)
    assert isinstance(told, OrderShort)
    assert (waits.state, waits.goal) == (State.SHORT_PICKED, Goal.PICK)
    assert told.waits_until == waits.waits_until == NOON + PACE.goods
    assert told.event_id != identity.event_id(pack().command_id, "OrderShort")
    assert again_in(before, waits, NOON, PACE) == PACE.pick_again
    near = NOON + PACE.goods - timedelta(seconds=20)
    assert again_in(before, waits, near, PACE) == timedelta(seconds=20)

    picking, none = learn(waits, WORDS["picking"], near, PACE)
    assert none == ()
    still, none = learn(replace(picking, state=State.PICKING), WORDS["short"], near, PACE)
    assert (still.state, none) == (State.SHORT_PICKED, ())
    over, none = learn(still, WORDS["short"], NOON + PACE.goods, PACE)
    assert (over.goal, over.reason, none) == (Goal.PUT_BACK, "backorder_expired", ())


def test_goods_that_come_end_the_wait() -> None:
    """The order is packed as if nothing had been short."""
    waits, _ = learn(_with_terms(JOBS["pick"], "wait", "wait"), WORDS["short"], NOON, PACE)
    after, (packed,) = learn(waits, WORDS["packed"], NOON, PACE)
    assert isinstance(packed, OrderPacked)
    assert (after.state, packed.lines) == (State.PACKED, (Line("tea", 2), Line("pot", 1)))


def test_more_than_was_ordered_is_never_counted() -> None:
    """Whatever the floor says."""
    after, _ = learn(JOBS["pick"], Task(TaskState.PICKING, (9, 9)), NOON, PACE)
    assert [line.picked for line in after.lines] == [2, 1]


def test_a_job_without_a_goal_is_not_looked_at() -> None:
    """It is due again only when something is asked of it."""
    assert again_in(JOBS["pick"], job(State.PACKED), NOON, PACE) is None
    assert again_in(JOBS["pick"], JOBS["pick"], NOON, PACE) == PACE.look
