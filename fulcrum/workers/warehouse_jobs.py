"""What is a pack job, where does it stand, and what is asked of the warehouse floor for it? Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fulcrum.workers.warehouse_policy import PackLine


class State(StrEnum):
    """Where a pack job stands, by the last word of the floor."""

    NOT_ASKED = "not_asked"  #: there is no job; only a hand-over was refused
    QUEUED = "queued"  #: the floor may have it, and has not said so
    ASSIGNED = "assigned"  #: the floor has it, and nobody picks yet
    PICKING = "picking"
    SHORT_PICKED = "short_picked"  #: every line was tried, and the job waits for goods
    PACKED = "packed"
    HANDED_OVER = "handed_over"  #: final: the courier has the parcels
    FAILED = "failed"  #: refused, and nothing is picked; a new attempt or a cancellation moves it
    CANCELLED = "cancelled"  #: final: nothing is picked, and nothing will be


#: In these states the PackOrder is not answered yet.
UNPACKED = frozenset({State.QUEUED, State.ASSIGNED, State.PICKING, State.SHORT_PICKED})


class Goal(StrEnum):
    """What the job is driven to; a job without a goal is left alone."""

    PICK = "pick"
    PACK = "pack"  #: what is picked, though it is less than was ordered
    PUT_BACK = "put_back"
    HAND_OVER = "hand_over"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackJob:
    """What the warehouse does for one workflow. ``sequence`` counts its events on the warehouse stream.

    ``pack_key`` is the command that asked for it: the floor knows the task by it, and so do readers, as
    ``pack_job_id``. ``reason`` is why the order is refused.
    """

    workflow_id: str
    state: State
    sequence: int
    attempt: int
    requested_at: datetime
    goal: Goal | None = None
    pack_key: str | None = None
    cancel_key: str | None = None
    hand_over_key: str | None = None
    ship_to: str | None = None
    tracking_number: str | None = None
    parcels: int | None = None
    reason: str | None = None
    waits_until: datetime | None = None
    lines: tuple[PackLine, ...] = ()


# --- what is asked of the floor -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """Have these lines picked, under ``key``."""

    key: str
    reference: str
    ship_to: str
    lines: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Look:
    """See how far the task is."""

    key: str


@dataclass(frozen=True, slots=True)
class PickAgain:
    """Try the missing lines once more."""

    key: str


@dataclass(frozen=True, slots=True)
class Pack:
    """Pack what is picked."""

    key: str


@dataclass(frozen=True, slots=True)
class PutBack:
    """Put back what is picked, and take the task up no more."""

    key: str


@dataclass(frozen=True, slots=True)
class HandOver:
    """Give the parcels to the courier."""

    key: str
    tracking_number: str


Ask = Offer | Look | PickAgain | Pack | PutBack | HandOver


def next_ask(job: PackJob) -> Ask | None:
    """What to ask of the floor; None when the job is left alone. Each may be asked again without harm."""
    if job.goal is None:
        return None
    assert job.pack_key is not None
    match job.goal:
        case Goal.PACK:
            return Pack(job.pack_key)
        case Goal.PUT_BACK:
            return PutBack(job.pack_key)
        case Goal.HAND_OVER:
            assert job.tracking_number is not None
            return HandOver(job.pack_key, job.tracking_number)
    match job.state:
        case State.QUEUED:
            wanted = tuple((line.sku, line.requested) for line in job.lines)
            return Offer(job.pack_key, job.workflow_id, job.ship_to or "", wanted)
        case State.SHORT_PICKED:
            return PickAgain(job.pack_key)
    return Look(job.pack_key)


# --- what the floor says --------------------------------------------------------------------------


class TaskState(StrEnum):
    """Where the task stands on the floor."""

    ASSIGNED = "assigned"
    PICKING = "picking"
    SHORT = "short"  #: every line was tried, and some of them are not complete
    PACKED = "packed"
    HANDED_OVER = "handed_over"
    CANCELLED = "cancelled"
    REFUSED = "refused"  #: the floor does not understand it, and will not later


@dataclass(frozen=True, slots=True)
class Task:
    """What the floor says of a task. ``picked`` are units by line."""

    state: TaskState
    picked: tuple[int, ...] = ()
    parcels: int = 0


@dataclass(frozen=True, slots=True)
class NoTask:
    """The floor has never heard of the task."""


Learned = Task | NoTask
