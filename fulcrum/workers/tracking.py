"""What does the courier tell about a shipment, and where does the shipment stand after it? Pure.

Updates come more than once and in any order. The courier numbers those of a shipment from 1, and that number
decides: a state never goes back. An end is final, whatever its number: what comes behind it changes nothing.
So the same updates lead to the same end, in whatever order and however often they come.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from fulcrum.errors import Corrupt


class Status(StrEnum):
    """Where a shipment stands, by the courier's word."""

    BOOKED = "booked"
    PICKED_UP = "picked_up"
    IN_TRANSIT = "in_transit"
    OUT_FOR_DELIVERY = "out_for_delivery"
    EXCEPTION = "exception"  #: something is in the way; it may go on
    DELIVERED = "delivered"
    RETURNED = "returned"
    LOST = "lost"
    CANCELLED = "cancelled"


#: Nothing follows these.
ENDS = frozenset({Status.DELIVERED, Status.RETURNED, Status.LOST, Status.CANCELLED})


@dataclass(frozen=True, slots=True)
class Update:
    """One thing that happened to a shipment. ``sequence`` counts those of the shipment from 1.

    ``undamaged`` is told with ``returned`` only.
    """

    update_id: str
    shipment_id: str
    sequence: int
    status: Status
    at: datetime
    reason: str | None = None
    undamaged: bool | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a shipment stands; ``sequence`` is the number of the update that says so, 0 before any."""

    status: str
    sequence: int = 0
    ended_at: datetime | None = None
    undamaged: bool | None = None


def follow(progress: Progress, update: Update) -> Progress:
    """Where the shipment stands once ``update`` is known as well."""
    if progress.status in ENDS:
        return progress
    if update.status in ENDS:
        return Progress(update.status, update.sequence, update.at, update.undamaged)
    if update.sequence > progress.sequence:
        return Progress(update.status, update.sequence)
    return progress


def follow_all(progress: Progress, updates: Iterable[Update]) -> Progress:
    """The same for several, in any order."""
    for update in updates:
        progress = follow(progress, update)
    return progress


# --- reading --------------------------------------------------------------------------------------

_LONGEST = 200
#: What Postgres takes into no text: zero, and half of a character.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def parse_update(body: bytes) -> Update:
    """The update that the courier sent. Corrupt names the field that is wrong."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"the body is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise Corrupt("the body must be a JSON object")
    return read_update(said)


def read_update(said: Mapping[str, Any]) -> Update:
    """The update in a JSON object. Corrupt names the field that is wrong."""
    return Update(
        update_id=_text(said, "update_id"),
        shipment_id=_text(said, "shipment_id"),
        sequence=_number(said, "sequence"),
        status=_status(said),
        at=_time(said, "at"),
        reason=None if said.get("reason") is None else _text(said, "reason"),
        undamaged=_flag(said, "undamaged"),
    )


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST or _UNSTORABLE.search(value):
        raise Corrupt(f"{name}: {_short(value)} is no text of 1 to {_LONGEST} characters")
    return value


def _number(said: Mapping[str, Any], name: str) -> int:
    value = said.get(name)
    if type(value) is not int or not 1 <= value < 2**31:
        raise Corrupt(f"{name}: {_short(value)} is no whole number of 1 or more")
    return value


def _flag(said: Mapping[str, Any], name: str) -> bool | None:
    value = said.get(name)
    if value is not None and type(value) is not bool:
        raise Corrupt(f"{name}: {_short(value)} is neither true nor false")
    return value


def _status(said: Mapping[str, Any]) -> Status:
    value = said.get("status")
    try:
        return Status(value)  # type: ignore[arg-type]
    except ValueError:
        raise Corrupt(f"status: {_short(value)} is none of {', '.join(Status)}") from None


def _time(said: Mapping[str, Any], name: str) -> datetime:
    value = said.get(name)
    try:
        time = datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        time = None
    if time is None or time.tzinfo is None:
        raise Corrupt(f"{name}: {_short(value)} is no time with an offset, like 2026-03-01T12:00:00+00:00")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise Corrupt(f"{name}: {_short(value)} is out of range") from None


def _short(value: object) -> str:
    return repr(value)[:60]
