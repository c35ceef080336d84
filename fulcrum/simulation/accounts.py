"""Do money and goods agree with how a workflow of the whole fulfilment ended? Raises Violation when not."""

from __future__ import annotations

from dataclasses import dataclass

from fulcrum.saga.amounts import captured
from fulcrum.saga.messages import IntentCreated
from fulcrum.saga.run import Status
from fulcrum.simulation.invariants import Violation
from fulcrum.simulation.inventory import HOLDING, Reservation
from fulcrum.simulation.journal import Entry
from fulcrum.simulation.warehouse import PackJob

#: Where a parcel may be while its goods are not in the warehouse, whole.
_AWAY = ("in_transit", "delivered", "returning", "returned_damaged", "lost")


@dataclass(frozen=True, slots=True)
class Accounts:
    """What the world has of a workflow: money in the currency's minor unit, reservation, pack job, parcel.

    ``holds`` counts the authorizations that stand, ``taken_minor`` is what was captured in all, and
    ``kept_minor`` what of it was not given back.
    """

    holds: int
    taken_minor: int
    kept_minor: int
    reservation: Reservation | None
    job: PackJob | None
    parcel: str | None


def check(last: Entry, intent: IntentCreated, known: Accounts) -> None:
    """What somebody skipped is theirs to answer for."""
    skipped = {step.name for step in last.steps if step.skipped_by is not None}
    key, job, reservation = last.workflow_id, known.job, known.reservation
    if known.taken_minor:
        if (reservation is None or not reservation.was_held) and "reserve_stock" not in skipped:
            raise Violation("no capture without reservation", f"{known.taken_minor} was taken", key)
        if (job is None or not job.was_packed) and "pack_order" not in skipped:
            raise Violation("no capture without packing", f"{known.taken_minor} was taken", key)
        if job is not None and job.was_packed and "pack_order" not in skipped:
            due = captured(intent.amount_minor, intent.lines, intent.terms, job.lines)
            if due != known.taken_minor:
                raise Violation("captured is what was packed", f"{known.taken_minor}, due is {due}", key)
    if reservation is not None and reservation.state == "back" and known.parcel in _AWAY:
        raise Violation("only goods that are back are available", f"the parcel is {known.parcel}", key)
    if last.status != Status.COMPLETED or "capture_payment" not in {step.name for step in last.steps}:
        return
    if known.holds and not skipped & {"authorize_payment", "capture_payment"}:
        raise Violation("an authorization ends with its run", f"{known.holds} stand", key)
    if not skipped and known.kept_minor != known.taken_minor:
        raise Violation("a completed run is paid", f"{known.kept_minor} of {known.taken_minor} kept", key)
    if reservation is not None and reservation.state in HOLDING and "consume_stock" not in skipped:
        raise Violation("nothing reserved for a finished run", reservation.state, key)
    if not skipped and job is not None and reservation is not None and reservation.lines != job.lines:
        told = f"{reservation.lines} consumed, {job.lines} packed"
        raise Violation("what left is what was packed", told, key)
