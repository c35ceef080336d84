"""What does the warehouse tell of a pack job, and under which number? Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from fulcrum.saga import identity
from fulcrum.saga.messages import (
    Answer,
    HandOverRefused,
    Line,
    OrderPacked,
    OrderShort,
    PackJobCancelled,
    PackRefused,
    ParcelHandedOver,
    ShortLine,
)
from fulcrum.workers.warehouse_jobs import PackJob


def told(job: PackJob, event: Answer) -> PackJob:
    """The job once ``event`` is told."""
    return replace(job, sequence=event.sequence)


def order_short(job: PackJob, now: datetime) -> OrderShort:
    """It waits for goods. This comes before the answer of its command, so it is numbered: the first one."""
    assert job.pack_key is not None
    assert job.waits_until is not None
    common = _common(job, job.pack_key, OrderShort, now)
    common["event_id"] = identity.event_id(job.pack_key, f"{OrderShort.__name__}/1")
    return OrderShort(**common, pack_job_id=job.pack_key, short=_short(job), waits_until=job.waits_until)


def order_packed(job: PackJob, key: str, now: datetime) -> OrderPacked:
    """What lies packed, without the lines of which there is nothing."""
    assert job.pack_key is not None
    return OrderPacked(
        **_common(job, key, OrderPacked, now),
        pack_job_id=job.pack_key,
        lines=_picked(job),
        parcels=job.parcels or 0,
    )


def pack_refused(job: PackJob, key: str, reason: str, now: datetime) -> PackRefused:
    """Nothing is packed under ``key``; ``job`` as it was before its goods were put back."""
    short = _short(job) if reason == job.reason else ()
    return PackRefused(**_common(job, key, PackRefused, now), reason=reason, short=short)


def pack_job_cancelled(job: PackJob, key: str, handed_over: bool, now: datetime) -> PackJobCancelled:
    """Nothing lies here any more."""
    common = _common(job, key, PackJobCancelled, now)
    return PackJobCancelled(**common, pack_job_id=job.pack_key, handed_over=handed_over)


def parcel_handed_over(job: PackJob, key: str, now: datetime) -> ParcelHandedOver:
    """The courier has it."""
    assert job.pack_key is not None
    common = _common(job, key, ParcelHandedOver, now)
    return ParcelHandedOver(**common, pack_job_id=job.pack_key, lines=_picked(job))


def hand_over_refused(job: PackJob, key: str, reason: str, now: datetime) -> HandOverRefused:
    """The courier got nothing under ``key``."""
    return HandOverRefused(**_common(job, key, HandOverRefused, now), reason=reason)


def _picked(job: PackJob) -> tuple[Line, ...]:
    return tuple(Line(line.sku, line.picked) for line in job.lines if line.picked)


def _short(job: PackJob) -> tuple[ShortLine, ...]:
    return tuple(ShortLine(line.sku, line.requested, line.picked) for line in job.lines if line.short)


def _common(job: PackJob, key: str, event: type[Answer], now: datetime) -> dict[str, Any]:
    return {
        "event_id": identity.event_id(key, event.__name__),
        "workflow_id": job.workflow_id,
        "sequence": job.sequence + 1,
        "occurred_at": now,
        "command_id": key,
    }
