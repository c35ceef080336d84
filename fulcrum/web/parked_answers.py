"""What operators get: parked messages, their groups, and operations on them.

Clients must expect further fields; none that is here changes its meaning or goes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from fulcrum.web.answers import Shape


class ParkedSummary(Shape):
    """A message that no worker could handle."""

    id: str
    parked_at: datetime
    service: str
    message_id: str
    type: str
    workflow_id: str | None
    queue: str
    reason: str
    """Why it was given up."""
    error_class: str
    error: str
    fingerprint: str
    """Equal for messages that failed in the same way."""
    attempts: int
    status: str
    """parked, replaying, replayed, edited or discarded."""
    status_at: datetime
    actor: str | None
    """Who decided what was done last."""
    note: str | None
    """The reason that was given for that."""
    operation_id: str | None
    """The operation that did it."""
    edited_from: str | None
    """The parked message that this one was made from."""
    edited_as: str | None
    """The message that was made from this one and sent in its place."""
    body_deleted_at: datetime | None
    """When its body was deleted, after the retention; null while it is kept."""


class Origin(Shape):
    """Where in Kafka an event lay."""

    topic: str
    partition: int
    offset: int
    key: str | None
    """In base64."""


class ParkedMessage(ParkedSummary):
    """A parked message with all that is kept of it."""

    headers: dict[str, str]
    body: str
    """The bytes as they came, in base64."""
    decoded: dict[str, Any] | None
    """What the bytes say; null when they cannot be read."""
    origin: Origin | None
    """Where an event lay; null for a command."""


class ParkedPage(Shape):
    """Parked messages, newest first."""

    items: list[ParkedSummary]
    next_cursor: str | None
    """Give it as ``cursor`` to get the next page; null on the last one."""


class ParkedGroup(Shape):
    """The messages that were parked for one cause."""

    fingerprint: str
    type: str
    service: str
    error_class: str
    error: str
    """That of the latest message."""
    waiting: int
    """How many wait to be replayed or discarded."""
    last_hour: int
    last_day: int
    last_week: int
    first_seen: datetime
    last_seen: datetime
    note: str | None
    owner: str | None
    noted_by: str | None
    noted_at: datetime | None


class ParkedGroups(Shape):
    """Groups of parked messages, those with the most that wait first."""

    items: list[ParkedGroup]


class ParkedKey(Shape):
    """A key of an outbox that has stopped, because Kafka does not take one of its events."""

    outbox: str
    """intake, payments, inventory, warehouse or courier."""
    key: str
    """In base64 that is safe in addresses."""
    key_text: str
    """The same as text: in most cases the workflow id."""
    topic: str
    error: str
    """Why its first event was not sent."""
    rows: int
    """How many events of it wait."""
    parked_at: datetime


class ParkedKeys(Shape):
    """Keys that have stopped, those that wait longest first."""

    items: list[ParkedKey]


class OperationEntry(Shape):
    """What a person did to an operation."""

    at: datetime
    act: str
    """create, pause, resume or abort."""
    actor: str
    reason: str


class OperationPlan(Shape):
    """What an operation would take. matched = total + all that is excluded."""

    kind: str
    matched: int
    total: int
    excluded: dict[str, int]
    """How many are left out, by reason."""
    dry_run: Literal[True] = True


class Operation(Shape):
    """What is done to fixed messages or workflows. total = succeeded + failed + skipped + pending."""

    id: str
    kind: str
    """replay, edit, discard, restore or release, or workflow. and what is asked of each workflow."""
    state: str
    """pending, running, paused, stopped, done or aborted."""
    why: str | None
    """Why it is paused, stopped or aborted."""
    actor: str
    reason: str
    selection: dict[str, Any]
    matched: int
    excluded: dict[str, int]
    """How many were left out, by reason."""
    total: int
    succeeded: int
    failed: int
    """That could not be sent, parked again, or whose workflow refused."""
    skipped: int
    pending: int
    rate: float | None
    canary: int
    stop_ratio: float | None
    history: list[OperationEntry]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class OperationPage(Shape):
    """Operations, newest first."""

    items: list[Operation]
    next_cursor: str | None
    """Give it as ``cursor`` to get the next page; null on the last one."""


class OperationItem(Shape):
    """One parked message or workflow of an operation, and what became of it."""

    number: int
    parked_id: str | None
    """null when it is a workflow."""
    workflow_id: str | None
    """null when it is a parked message."""
    service: str
    """workflows when it is one."""
    message_id: str | None
    """Under which it is sent; of a workflow, the event by which it is asked, null before that."""
    state: str
    """pending, succeeded, failed or skipped."""
    outcome: str | None
    """sent, taken, parked again, discarded, parked, aborted, or why it failed; of a workflow, what its
    decision made of it."""
    begun_at: datetime | None
    ended_at: datetime | None


class OperationItems(Shape):
    """Items of an operation, in the order in which they are taken."""

    items: list[OperationItem]
    next_after: int | None
    """Give it as ``after`` to get the next page; null on the last one."""
