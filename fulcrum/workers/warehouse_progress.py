"""What does a word of the warehouse floor mean to the pack job that it is about? Pure.

The floor moves at its own pace, so a job is looked at until its goal is reached; only then are the commands
answered that wait for it. A word that answers another question than the one that stands now is dropped: the
goal was changed while it was on its way, and the floor is asked again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fulcrum.saga.messages import Answer, HandOverParcel, PackOrder
from fulcrum.workers.warehouse import open_commands
from fulcrum.workers.warehouse_answers import (
    hand_over_refused,
    order_packed,
    order_short,
    pack_job_cancelled,
    pack_refused,
    parcel_handed_over,
    told,
)
from fulcrum.workers.warehouse_jobs import Goal, Learned, NoTask, PackJob, State, Task, TaskState
from fulcrum.workers.warehouse_policy import PackAsIs, Refuse, WaitForGoods, judge

#: Told of an order, or a hand-over, that the floor gave up on its own.
GIVEN_UP = "given_up_by_warehouse"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a job waits: for its next look, for its next pick when it is short, and for goods in all."""

    look: timedelta
    pick_again: timedelta
    goods: timedelta


#: The job as it must be stored, and what is told of it, in order.
Progress = tuple[PackJob, tuple[Answer, ...]]


def learn(job: PackJob, said: Learned, now: datetime, pace: Pace) -> Progress:
    """What the floor said to ``next_ask(job)``. ``now`` is the database's time."""
    match job.goal:
        case Goal.PICK:
            return _picking(job, said, now, pace)
        case Goal.PACK:
            return _packing(job, said, now)
        case Goal.PUT_BACK:
            return _putting_back(job, said, now)
        case Goal.HAND_OVER:
            return _handing_over(job, said, now)
    return job, ()


def again_in(before: PackJob | None, job: PackJob, now: datetime, pace: Pace) -> timedelta | None:
    """When to ask next; None when the job is left alone. At once when there is something new to ask."""
    if job.goal is None:
        return None
    if before is None or before.goal != job.goal:
        return timedelta(0)
    if job.state == State.SHORT_PICKED and job.goal == Goal.PICK:
        assert job.waits_until is not None
        # The last look is the one behind the end of the wait.
        return max(pace.look, min(pace.pick_again, job.waits_until - now))
    return pace.look


def _picking(job: PackJob, said: Learned, now: datetime, pace: Pace) -> Progress:
    if isinstance(said, NoTask):  # the floor lost it, or never got it
        return _forgotten(job), ()
    seen = _counted(job, said)
    match said.state:
        case TaskState.ASSIGNED:
            return replace(seen, state=State.ASSIGNED), ()
        case TaskState.PICKING:
            return replace(seen, state=State.PICKING), ()
        case TaskState.PACKED | TaskState.HANDED_OVER:
            return _packed(seen, said, now)
        case TaskState.CANCELLED | TaskState.REFUSED:
            return _given_up(job, now)
    return _short(seen, now, pace)


def _short(job: PackJob, now: datetime, pace: Pace) -> Progress:
    """Every line was tried, and some are not complete: the terms say what comes next."""
    match judge(job.lines, now, job.waits_until):
        case PackAsIs():
            return replace(job, goal=Goal.PACK), ()
        case Refuse(reason):
            return replace(job, goal=Goal.PUT_BACK, reason=reason), ()
        case WaitForGoods():
            if job.waits_until is not None:  # that it waits was told before
                return replace(job, state=State.SHORT_PICKED), ()
            job = replace(job, state=State.SHORT_PICKED, waits_until=now + pace.goods)
            event = order_short(job, now)
            return told(job, event), (event,)


def _packing(job: PackJob, said: Learned, now: datetime) -> Progress:
    if isinstance(said, NoTask):
        return replace(_forgotten(job), goal=Goal.PICK), ()
    match said.state:
        case TaskState.PACKED | TaskState.HANDED_OVER:
            return _packed(_counted(job, said), said, now)
        case TaskState.CANCELLED | TaskState.REFUSED:
            return _given_up(job, now)
    return job, ()


def _putting_back(job: PackJob, said: Learned, now: datetime) -> Progress:
    """Each command that waits is told how it ended, the cancellation last."""
    gone = isinstance(said, Task) and said.state == TaskState.HANDED_OVER
    if isinstance(said, Task) and not gone and said.state != TaskState.CANCELLED:
        return job, ()
    if gone and isinstance(said, Task):
        job = _counted(job, said)
    events: list[Answer] = []
    for kind, key in open_commands(job).items():
        events.append(_ended(job, kind, key, gone, now))
        job = told(job, events[-1])
    state = State.HANDED_OVER if gone else State.FAILED if job.cancel_key is None else State.CANCELLED
    left = job.lines if gone else tuple(replace(line, picked=0) for line in job.lines)
    return replace(job, state=state, goal=None, lines=left), tuple(events)


def _ended(job: PackJob, kind: str, key: str, gone: bool, now: datetime) -> Answer:
    """How the command ``key`` ended when the goods were put back, or are ``gone`` to the courier."""
    if kind == PackOrder.__name__:
        return order_packed(job, key, now) if gone else pack_refused(job, key, job.reason or "cancelled", now)
    if kind == HandOverParcel.__name__:
        return parcel_handed_over(job, key, now) if gone else hand_over_refused(job, key, "cancelled", now)
    return pack_job_cancelled(job, key, gone, now)


def _handing_over(job: PackJob, said: Learned, now: datetime) -> Progress:
    assert job.hand_over_key is not None
    if isinstance(said, Task) and said.state == TaskState.HANDED_OVER:
        event: Answer = parcel_handed_over(job, job.hand_over_key, now)
        return told(replace(job, state=State.HANDED_OVER, goal=None), event), (event,)
    if isinstance(said, Task) and said.state not in (TaskState.CANCELLED, TaskState.REFUSED):
        return job, ()
    event = hand_over_refused(job, job.hand_over_key, GIVEN_UP, now)
    return told(_failed(job), event), (event,)


def _packed(job: PackJob, said: Task, now: datetime) -> Progress:
    key = job.pack_key
    assert key is not None
    job = replace(job, state=State.PACKED, goal=None, parcels=said.parcels)
    event = order_packed(job, key, now)
    return told(job, event), (event,)


def _given_up(job: PackJob, now: datetime) -> Progress:
    key = job.pack_key
    assert key is not None
    job = replace(job, reason=GIVEN_UP)
    event = pack_refused(job, key, GIVEN_UP, now)
    return told(_failed(job), event), (event,)


def _failed(job: PackJob) -> PackJob:
    nothing = tuple(replace(line, picked=0) for line in job.lines)
    return replace(job, state=State.FAILED, goal=None, lines=nothing)


def _forgotten(job: PackJob) -> PackJob:
    return replace(job, state=State.QUEUED, lines=tuple(replace(line, picked=0) for line in job.lines))


def _counted(job: PackJob, said: Task) -> PackJob:
    """The job with what is picked by now; never more than was ordered."""
    if len(said.picked) != len(job.lines):
        return job
    counted = zip(job.lines, said.picked, strict=True)
    return replace(
        job, lines=tuple(replace(line, picked=min(picked, line.requested)) for line, picked in counted)
    )
