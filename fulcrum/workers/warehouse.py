"""What does a warehouse command mean to the pack job of its workflow? Pure.

A command is answered here when its answer is known. Otherwise it gives the job a goal, and is answered once
that is reached, see ``warehouse_progress``. No command comes here twice: a repeat gets what its first copy
got.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from fulcrum.errors import Rejected, Retryable
from fulcrum.saga.messages import Answer, CancelPackJob, HandOverParcel, LineTerms, PackOrder, StepCommand
from fulcrum.workers.warehouse_answers import (
    hand_over_refused,
    order_packed,
    pack_job_cancelled,
    pack_refused,
    parcel_handed_over,
    told,
)
from fulcrum.workers.warehouse_jobs import UNPACKED, Goal, PackJob, State
from fulcrum.workers.warehouse_policy import CANCEL_ORDER, POLICIES, PackLine

#: The job as it must be stored, and the answer when it is known.
Moved = tuple[PackJob, Answer | None]


def pack_order(job: PackJob | None, command: PackOrder, now: datetime) -> Moved:
    """Have the lines picked, unless a cancellation came first.

    Raises Retryable while an earlier attempt is open, Rejected when the lines make no sense or are not those
    that lie packed.
    """
    lines = _lines(command)
    if job is None or job.state == State.NOT_ASKED:
        return _begun(job, command, lines, now), None
    if job.cancel_key is not None:
        return _answered(job, pack_refused(job, command.command_id, "cancelled", now))
    if command.attempt <= job.attempt:
        return _answered(job, pack_refused(job, command.command_id, "superseded", now))
    match job.state:
        case State.FAILED:
            return _begun(job, command, lines, now), None
        case State.PACKED | State.HANDED_OVER:
            if [(line.sku, line.requested) for line in job.lines] != [(x.sku, x.requested) for x in lines]:
                raise Rejected(f"attempt {job.attempt} of this pack job packed other lines")
            return _answered(job, order_packed(job, command.command_id, now))
    raise Retryable(f"attempt {job.attempt} of this pack job has no outcome yet")


def cancel_pack_job(job: PackJob | None, command: CancelPackJob, now: datetime) -> Moved:
    """Put back whatever is picked, and leave a fence against what is still on its way.

    What was handed over stays so: the answer says it. Raises Retryable while another cancellation is open.
    """
    key = command.command_id
    job = _none(command, State.CANCELLED, now) if job is None else job
    if job.state in (State.NOT_ASKED, State.FAILED, State.CANCELLED):
        job = replace(job, state=State.CANCELLED, cancel_key=key)
        return _answered(job, pack_job_cancelled(job, key, False, now))
    if job.state == State.HANDED_OVER:
        job = replace(job, cancel_key=key)
        return _answered(job, pack_job_cancelled(job, key, True, now))
    if job.cancel_key is not None:
        raise Retryable("an earlier cancellation of this pack job has no outcome yet")
    return replace(job, goal=Goal.PUT_BACK, cancel_key=key), None


def hand_over_parcel(job: PackJob | None, command: HandOverParcel, now: datetime) -> Moved:
    """Give what is packed to the courier.

    Raises Retryable while another hand-over is open, for only its outcome tells who has the parcels.
    """
    key = command.command_id
    job = _none(command, State.NOT_ASKED, now) if job is None else job
    if job.state == State.HANDED_OVER:
        if command.tracking_number == job.tracking_number:
            return _answered(job, parcel_handed_over(job, key, now))
        return _answered(job, hand_over_refused(job, key, "handed_over", now))
    if job.cancel_key is not None:
        return _answered(job, hand_over_refused(job, key, "cancelled", now))
    if job.state != State.PACKED:
        return _answered(job, hand_over_refused(job, key, "not_packed", now))
    if job.goal == Goal.HAND_OVER:
        raise Retryable("an earlier hand-over of this pack job has no outcome yet")
    wanted = replace(job, goal=Goal.HAND_OVER, hand_over_key=key, tracking_number=command.tracking_number)
    return wanted, None


def open_commands(job: PackJob) -> dict[str, str]:
    """The commands of ``job`` that wait for their answer, by type."""
    waiting = {
        PackOrder.__name__: job.pack_key if job.state in UNPACKED else None,
        HandOverParcel.__name__: job.hand_over_key if job.state == State.PACKED else None,
        CancelPackJob.__name__: job.cancel_key if job.goal == Goal.PUT_BACK else None,
    }
    return {kind: key for kind, key in waiting.items() if key is not None}


def _lines(command: PackOrder) -> tuple[PackLine, ...]:
    terms: Sequence[LineTerms] = command.terms or [LineTerms(0, CANCEL_ORDER)] * len(command.lines)
    if not command.lines or len(terms) != len(command.lines):
        raise Rejected(f"terms: {len(terms)} for {len(command.lines)} lines; give one for each line, or none")
    for each in terms:
        if each.on_short not in POLICIES:
            raise Rejected(f"terms: on_short {each.on_short!r} is none of {', '.join(POLICIES)}")
    for line in command.lines:
        if line.quantity < 1:
            raise Rejected(f"lines: quantity {line.quantity} of {line.sku} is below 1")
    return tuple(
        PackLine(line.sku, line.quantity, unit_minor=each.unit_minor, on_short=each.on_short)
        for line, each in zip(command.lines, terms, strict=True)
    )


def _begun(job: PackJob | None, command: PackOrder, lines: tuple[PackLine, ...], now: datetime) -> PackJob:
    return PackJob(
        workflow_id=command.workflow_id,
        state=State.QUEUED,
        sequence=0 if job is None else job.sequence,
        attempt=command.attempt,
        requested_at=now,
        goal=Goal.PICK,
        pack_key=command.command_id,
        ship_to=command.ship_to,
        lines=lines,
    )


def _none(command: StepCommand, state: State, now: datetime) -> PackJob:
    """The job of a workflow that never asked for one."""
    return PackJob(workflow_id=command.workflow_id, state=state, sequence=0, attempt=0, requested_at=now)


def _answered(job: PackJob, event: Answer) -> Moved:
    return told(job, event), event
