"""What every warehouse command means to a pack job in every state."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from packing import NOON, NUMBER, WORKFLOW, cancel, hand_over, job, pack

from fulcrum.errors import Rejected, Retryable
from fulcrum.saga.messages import (
    Answer,
    HandOverRefused,
    Line,
    OrderPacked,
    PackJobCancelled,
    PackRefused,
    ParcelHandedOver,
)
from fulcrum.workers.handlers import WAREHOUSE_HANDLERS
from fulcrum.workers.warehouse import open_commands
from fulcrum.workers.warehouse_jobs import Goal, PackJob, State

_NEVER = PackJob(workflow_id=WORKFLOW, state=State.NOT_ASKED, sequence=1, attempt=0, requested_at=NOON)
_FENCE = replace(_NEVER, state=State.CANCELLED, cancel_key=cancel().command_id)
_CANCELLING = {"cancel_key": cancel().command_id}
_HANDED = {"hand_over_key": hand_over().command_id, "tracking_number": NUMBER}
_PACKED = {"picked": (2, 1), "parcels": 1}

#: Every state with every goal that it may have.
JOBS: dict[str, PackJob | None] = {
    "none": None,
    "not asked": _NEVER,
    "fence": _FENCE,
    "queued": job(State.QUEUED, Goal.PICK),
    "assigned": job(State.ASSIGNED, Goal.PICK),
    "picking": job(State.PICKING, Goal.PICK, (1, 0)),
    "short": job(State.SHORT_PICKED, Goal.PICK, (1, 0), waits_until=NOON),
    "packing": job(State.PICKING, Goal.PACK, (1, 1)),
    "refusing": job(State.PICKING, Goal.PUT_BACK, (1, 0), reason="short"),
    "cancelling": job(State.PICKING, Goal.PUT_BACK, (1, 0), **_CANCELLING),
    "packed": job(State.PACKED, **_PACKED),
    "cancelling packed": job(State.PACKED, Goal.PUT_BACK, **_PACKED, **_CANCELLING),
    "handing over": job(State.PACKED, Goal.HAND_OVER, **_PACKED, **_HANDED),
    "handed over": job(State.HANDED_OVER, **_PACKED, **_HANDED),
    "handed over, cancelled": job(State.HANDED_OVER, **_PACKED, **_HANDED, **_CANCELLING),
    "failed": job(State.FAILED, reason="short"),
    "cancelled": job(State.CANCELLED, **_CANCELLING),
}
_LATER = {"pack": pack(2), "cancel": cancel(2), "hand over": hand_over(2)}
_BEGUN = (State.QUEUED, Goal.PICK)
#: What a new command does: the answer and its telling field, or the state and goal that follow, or the error.
EXPECTED: dict[str, tuple[Any, Any, Any]] = {
    # job: PackOrder, CancelPackJob, HandOverParcel
    "none": (_BEGUN, (PackJobCancelled, False), (HandOverRefused, "not_packed")),
    "not asked": (_BEGUN, (PackJobCancelled, False), (HandOverRefused, "not_packed")),
    "fence": ((PackRefused, "cancelled"), (PackJobCancelled, False), (HandOverRefused, "cancelled")),
    "queued": (Retryable, (State.QUEUED, Goal.PUT_BACK), (HandOverRefused, "not_packed")),
    "assigned": (Retryable, (State.ASSIGNED, Goal.PUT_BACK), (HandOverRefused, "not_packed")),
    "picking": (Retryable, (State.PICKING, Goal.PUT_BACK), (HandOverRefused, "not_packed")),
    "short": (Retryable, (State.SHORT_PICKED, Goal.PUT_BACK), (HandOverRefused, "not_packed")),
    "packing": (Retryable, (State.PICKING, Goal.PUT_BACK), (HandOverRefused, "not_packed")),
    "refusing": (Retryable, (State.PICKING, Goal.PUT_BACK), (HandOverRefused, "not_packed")),
    "cancelling": ((PackRefused, "cancelled"), Retryable, (HandOverRefused, "cancelled")),
    "packed": (
        (OrderPacked, (Line("tea", 2), Line("pot", 1))),
        (State.PACKED, Goal.PUT_BACK),
        (State.PACKED, Goal.HAND_OVER),
    ),
    "cancelling packed": ((PackRefused, "cancelled"), Retryable, (HandOverRefused, "cancelled")),
    "handing over": (
        (OrderPacked, (Line("tea", 2), Line("pot", 1))),
        (State.PACKED, Goal.PUT_BACK),
        Retryable,
    ),
    "handed over": (
        (OrderPacked, (Line("tea", 2), Line("pot", 1))),
        (PackJobCancelled, True),
        (ParcelHandedOver, (Line("tea", 2), Line("pot", 1))),
    ),
    "handed over, cancelled": (
        (PackRefused, "cancelled"),
        (PackJobCancelled, True),
        (ParcelHandedOver, (Line("tea", 2), Line("pot", 1))),
    ),
    "failed": (_BEGUN, (PackJobCancelled, False), (HandOverRefused, "not_packed")),
    "cancelled": ((PackRefused, "cancelled"), (PackJobCancelled, False), (HandOverRefused, "cancelled")),
}
_TELLING = {
    PackRefused: "reason",
    HandOverRefused: "reason",
    PackJobCancelled: "handed_over",
    OrderPacked: "lines",
    ParcelHandedOver: "lines",
}


def carry_out(before: PackJob | None, command: Any) -> tuple[PackJob, Answer | None]:
    """What the table of handlers does."""
    moved: tuple[PackJob, Answer | None] = WAREHOUSE_HANDLERS[type(command)](before, command, NOON)
    return moved


def test_every_state_and_goal_is_here() -> None:
    """The table leaves no state out."""
    assert {each.state for each in JOBS.values() if each is not None} == set(State)
    assert EXPECTED.keys() == JOBS.keys()


@pytest.mark.parametrize(("name", "number"), list(product(JOBS, range(3))))
def test_every_command_in_every_state(name: str, number: int) -> None:
    """It is answered with the next number, or gives the job its goal, or must wait for what is open."""
    before, command, expected = JOBS[name], [*_LATER.values()][number], EXPECTED[name][number]
    if expected is Retryable:
        with pytest.raises(Retryable):
            carry_out(before, command)
        return
    after, answer = carry_out(before, command)
    told = 0 if before is None else before.sequence
    if isinstance(expected[0], State):
        assert answer is None
        assert (after.state, after.goal) == expected
        assert after.sequence == told
        assert command.command_id in open_commands(after).values()
        return
    kind, field = expected
    assert isinstance(answer, kind)
    assert getattr(answer, _TELLING[kind]) == field
    assert answer.command_id == command.command_id
    assert answer.sequence == after.sequence == told + 1
    # What waited before waits still.
    assert before is None or open_commands(after) == open_commands(before)


@pytest.mark.parametrize("name", [name for name, each in JOBS.items() if each is not None and each.attempt])
def test_an_older_order_is_refused(name: str) -> None:
    """A PackOrder of an attempt that is over, and was never seen, begins nothing."""
    before = JOBS[name]
    assert before is not None
    newer = replace(before, attempt=3)
    after, answer = carry_out(newer, pack(2))
    assert isinstance(answer, PackRefused)
    assert answer.reason == ("cancelled" if before.cancel_key else "superseded")
    assert replace(after, sequence=newer.sequence) == newer


def test_a_cancellation_before_the_order_is_a_fence() -> None:
    """The order that comes late is refused, and the cancellation names no job."""
    fence, cancelled = carry_out(None, cancel())
    assert isinstance(cancelled, PackJobCancelled)
    assert (cancelled.pack_job_id, cancelled.handed_over) == (None, False)
    after, refused = carry_out(fence, pack())
    assert isinstance(refused, PackRefused)
    assert (refused.reason, refused.sequence, after.goal) == ("cancelled", 2, None)


def test_a_new_attempt_after_a_refusal_begins_afresh() -> None:
    """Nothing of the attempt before stays, but the count of what was told."""
    begun, answer = carry_out(job(State.FAILED, reason="short", waits_until=NOON), pack(2, [("cup", 5)]))
    assert answer is None
    assert (begun.attempt, begun.sequence, begun.waits_until, begun.reason) == (2, 3, None, None)
    assert [(line.sku, line.requested, line.picked) for line in begun.lines] == [("cup", 5, 0)]


def test_another_tracking_number_is_refused_once_it_left() -> None:
    """The parcels left under the first number."""
    handed = JOBS["handed over"]
    _, answer = carry_out(handed, hand_over(2, "TRACK2"))
    assert isinstance(answer, HandOverRefused)
    assert answer.reason == "handed_over"


def test_other_lines_than_those_packed_make_no_sense() -> None:
    """A new attempt cannot change what lies packed."""
    with pytest.raises(Rejected, match="other lines"):
        carry_out(JOBS["packed"], pack(2, [("cup", 5)]))


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (pack(lines=()), "terms"),
        (pack(on_short=("wait",)), "terms: 1 for 2 lines"),
        (pack(on_short=("wait", "never")), "never"),
        (pack(lines=(("tea", 0),)), "quantity 0 of tea"),
    ],
)
def test_lines_that_make_no_sense_are_named(command: Any, says: str) -> None:
    """The command is parked with what is wrong with it."""
    with pytest.raises(Rejected, match=says):
        carry_out(None, command)


def test_without_terms_a_short_line_cancels_the_order() -> None:
    """That is what an intent from before says."""
    begun, _ = carry_out(None, pack())
    assert {line.on_short for line in begun.lines} == {"cancel_order"}
