"""What clients get: the shape of every answer, as documented at ``/openapi.json``.

Clients must expect further fields; none that is here changes its meaning or goes.

Long, because it is one short model after another.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    """An answer, or a part of one."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class IntentAccepted(Shape):
    """The intent is stored and its workflow will run."""

    intent_id: str
    workflow_id: str
    status: Literal["accepted"] = "accepted"
    accepted_at: datetime


class Line(Shape):
    """So many units of one SKU."""

    sku: str
    quantity: int


class Step(Shape):
    """Where one step of a workflow stands."""

    name: str
    status: str
    """pending, requested, done, refused, undo_requested or undone."""
    attempt: int
    command_id: str | None
    deadline_at: datetime | None
    """When an answer is late; null when none is awaited."""
    finished_at: datetime | None
    reason: str | None
    """Why it was refused."""
    late: int = 0
    """How many deadlines passed since it was asked."""
    expires_at: datetime | None = None
    """When what it holds lapses; null when it does not."""


class Cause(Shape):
    """The event that a workflow answered, and where it stands in Kafka."""

    type: str
    event_id: str
    stream: str
    sequence: int
    occurred_at: datetime
    topic: str
    partition: int
    offset: int
    actor: str | None = None
    """Who asked for it; null when nobody did."""


class Command(Shape):
    """A command that a workflow issued."""

    command_id: str
    type: str
    service: str
    step: str
    attempt: int
    deadline_at: datetime | None


class Entry(Shape):
    """One transition: what happened, what it made of the workflow, which commands left."""

    version: int
    at: datetime
    status_before: str | None
    status: str
    step: str | None
    cause: Cause
    commands: list[Command]
    ignored: str | None
    """Why the event changed nothing; null when it did."""
    reason: str | None


class Freshness(Shape):
    """Where the answer comes from, and when it was the newest there."""

    source: Literal["cache", "database", "intake"]
    version: int
    as_of: datetime


class WorkflowSummary(Shape):
    """A workflow in a list."""

    workflow_id: str
    intent_id: str
    tenant: str
    customer_ref: str
    definition: str
    status: str
    """accepted, running, compensating, needs_attention, completed or cancelled."""
    version: int
    """Counts the transitions; 0 while the intent is accepted and nothing has happened yet."""
    reason: str | None
    """Why it did not complete."""
    amount_minor: int
    currency: str
    correlation_id: str
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None


class Workflow(WorkflowSummary):
    """A workflow with all that happened to it."""

    lines: list[Line]
    steps: list[Step]
    timeline: list[Entry]
    freshness: Freshness


class Cancellation(Shape):
    """The workflow is undone, or will be: what is known of it."""

    workflow_id: str
    event_id: str | None
    """The event of the timeline by which it was asked; null when the workflow was being undone already."""
    status: str
    """compensating, needs_attention or cancelled; accepted or running while ``decided`` is false."""
    version: int
    reason: str | None
    """Why it is undone: another reason when something else came first."""
    decided: bool
    """False when no decision was seen within 2 s: the request is stored; read on at ``Location``."""


class WorkflowPage(Shape):
    """Workflows, newest first."""

    items: list[WorkflowSummary]
    next_cursor: str | None
    """Give it as ``cursor`` to get the next page; null on the last one."""


class ReceiptAccepted(Shape):
    """The receipt is on its way to inventory."""

    command_id: str
    sku: str
    quantity: int
    reference: str
    status: Literal["accepted"] = "accepted"
    accepted_at: datetime


class Stock(Shape):
    """How much of one SKU there is. received = available + reserved + consumed."""

    sku: str
    available: int
    reserved: int
    consumed: int
    received: int
    version: int


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
    """intake, payments or inventory."""
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
    """What is done to a fixed set of parked messages. total = succeeded + failed + skipped + pending."""

    id: str
    kind: str
    """replay, edit, discard, restore or release."""
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
    """That could not be sent, or parked again."""
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
    """One message of an operation, and what became of it."""

    number: int
    parked_id: str
    service: str
    message_id: str
    """Under which it is sent."""
    state: str
    """pending, succeeded, failed or skipped."""
    outcome: str | None
    """sent, taken, parked again, discarded, parked, aborted, or the reason of a failure."""
    begun_at: datetime | None
    ended_at: datetime | None


class OperationItems(Shape):
    """Items of an operation, in the order in which they are taken."""

    items: list[OperationItem]
    next_after: int | None
    """Give it as ``after`` to get the next page; null on the last one."""


class ProblemKind(Shape):
    """One kind of problem, and what to do about it."""

    code: str
    status: int
    title: str
    remedy: str
    retryable: bool


class ProblemError(Shape):
    """What is wrong with one field; one of pointer, parameter and header says where it is."""

    pointer: Annotated[str, Field(description="Field of the body, as a JSON pointer.")] = ""
    parameter: Annotated[str, Field(description="Parameter of path or query.")] = ""
    header: Annotated[str, Field(description="Header of the request.")] = ""
    detail: str


class Problem(Shape):
    """What went wrong and what to do about it (RFC 9457)."""

    type: str
    """Address of the description of this kind of problem."""
    title: str
    status: int
    detail: str
    instance: str
    """The path that was asked for."""
    code: str
    retryable: bool
    """True when the same request may succeed later."""
    correlation_id: str
    """Finds the request in the log."""
    errors: list[ProblemError] = []
