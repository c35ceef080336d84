"""What clients get: the shape of every answer, as documented at ``/openapi.json``.

Clients must expect further fields; none that is here changes its meaning or goes.

Long, because it is the whole vocabulary of the API: one short shape after another.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

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
    """Where one step of a workflow stands. What only an operator brings about is left out until then."""

    name: str
    status: str
    """pending, requested, done, refused, undo_requested, undone or skipped."""
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
    held: bool = False
    """Its command waits until the workflow is resumed."""
    skipped_by: str | None = None
    """The operator who ended it without its answer."""
    result: str | None = None
    """What they gave as its answer, as JSON."""
    passed_over: bool = False
    """The workflow is undone from an earlier step on, and this one is left as it is."""
    left_standing: bool = False
    """The workflow was terminated while the effect of this step stood or may have stood."""


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
    verb: str | None = None
    """What they asked for."""
    reason: str | None = None
    """Why, in their words."""
    trace_id: str | None = None
    """The trace that it came in; left out when it came in none."""


class Command(Shape):
    """A command that a workflow issued."""

    command_id: str
    type: str
    service: str
    step: str
    attempt: int
    deadline_at: datetime | None


class Answered(Shape):
    """The command that an event answers."""

    command_id: str
    type: str
    attempt: int
    version: int
    """The transition that sent it."""


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
    answered: Answered | None = None
    """The command that the event answers; null when it answers none. Not told in a stream."""
    since_command_ms: float | None = None
    """From the decision that sent that command to this one. Not told in a stream."""
    since_previous_ms: float | None = None
    """From the transition before; null at the first. Not told in a stream."""


class Attempt(Shape):
    """A technical try of a command: one that failed, or the one that succeeded after some that failed."""

    command_id: str
    round: int
    """1, and one more for each time the command was parked and replayed."""
    attempt: int
    """Counts the tries of a round from 1."""
    started_at: datetime
    service: str
    type: str
    step: str | None
    outcome: Literal["succeeded", "retried", "parked"]
    kind: Literal["transient", "permanent", "poison", "bug"] | None
    """What was wrong; null when it succeeded."""
    error_class: str | None
    error: str | None
    duration_ms: int
    worker: str
    """The instance that tried it."""
    next_due: datetime | None
    """When it is tried again; null when it is not."""


class WaitingOn(Shape):
    """What a workflow waits for."""

    sentence: str
    """All that follows in one sentence for people; its wording may change."""
    waits_for: str | None
    """The type of the event that moves it on, or who must act; null when it is finished."""
    since: datetime | None
    next: str | None
    """What happens next by itself, or what a person must do."""
    due: datetime | None
    """When that happens; null when nobody can tell."""
    step: str | None
    command: str | None
    """The type of the command that is out."""
    others: int
    """How many other commands of the type are out, 1000 at most; 0 while it has waited for less than 5 s."""


class WorkflowWhy(WaitingOn):
    """What one workflow waits for."""

    workflow_id: str
    status: str
    version: int


class Freshness(Shape):
    """Where the answer comes from, and when it was the newest there."""

    source: Literal["cache", "database", "intake"]
    version: int
    as_of: datetime


class ListFreshness(Shape):
    """Where several workflows come from, and when they were the newest there."""

    source: Literal["database", "intake"]
    as_of: datetime


class WorkflowSummary(Shape):
    """A workflow in a list."""

    workflow_id: str
    intent_id: str
    tenant: str
    customer_ref: str
    definition: str
    status: str
    """accepted, running, paused, compensating, needs_attention, completed, cancelled or terminated."""
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
    step: str | None = None
    """The step whose answer is awaited; null when none is."""
    promised_at: datetime | None = None
    """When it was promised to arrive."""
    late_by: int | None = None
    """Seconds from then until it was delivered, or until now; 0 in time, null when nothing was promised or
    nothing will be delivered."""
    holds: list[str] = []
    """Why it is paused: address, fraud, operator; it goes on once none is left."""
    intercept: str | None = None
    """Why its shipment is to be stopped, while nobody has answered whether it is."""


class Milestone(Shape):
    """How far an order has come, in the customer's words."""

    name: str
    """accepted, paid, reserved, packed, shipped or delivered: those that the definition knows, in order."""
    at: datetime | None
    """null while it is not reached, and once it is undone."""


class Workflow(WorkflowSummary):
    """A workflow with all that happened to it."""

    lines: list[Line]
    steps: list[Step]
    milestones: list[Milestone]
    timeline: list[Entry]
    attempts: list[Attempt] | None
    """Tries that failed, and what came after; a command that succeeds at once has none. The newest 500; null
    when the database cannot be asked at present."""
    waiting_on: WaitingOn | None
    """What it waits for; null when it is finished."""
    freshness: Freshness


class Cancellation(Shape):
    """The workflow is undone, or will be: what is known of it."""

    workflow_id: str
    event_id: str | None
    """The event of the timeline by which it was asked; null when the workflow was being undone already."""
    status: str
    """compensating, needs_attention or cancelled; paused when it will be undone once it is resumed.

    While ``decided`` is false it is what it was before.
    """
    version: int
    reason: str | None
    """Why it is undone: another reason when something else came first."""
    decided: bool
    """False when no decision was seen within 2 s: the request is stored; read on at ``Location``."""


class RequestedCommand(Shape):
    """A command that leaves, or would leave, because of a request."""

    type: str
    service: str
    step: str
    attempt: int


class Requested(Shape):
    """What an operator's request came to; with ``dry_run`` what it would come to."""

    workflow_id: str
    request_id: str | None
    """The event of the timeline by which it was asked; null when nothing was asked."""
    verb: str
    """What was asked for; the name of a signal."""
    dry_run: bool
    decided: bool
    """False when no decision was seen within 2 s: the request is stored; read on at ``Location``."""
    outcome: Literal["accepted", "refused"] | None
    """null while it is not decided."""
    refused: str | None
    """Why the workflow did not do it."""
    version: int
    """The version that the decision made; without one, the newest that was seen."""
    status_before: str | None
    status: str
    """The workflow's status after the decision."""
    step: str | None
    """The step that it was about."""
    commands: list[RequestedCommand]
    """What left because of it."""
    held: list[str]
    """Steps whose command waits until the workflow is resumed."""
    standing: list[str]
    """Steps whose effect stands or may stand."""


class WorkflowPage(Shape):
    """Workflows, newest first."""

    items: list[WorkflowSummary]
    next_cursor: str | None
    """Give it as ``cursor`` to get the next page, with the same filters; null on the last one."""
    freshness: ListFreshness


class Found(Shape):
    """A workflow that has something to do with what was searched for."""

    what: Literal[
        "workflow_id", "intent_id", "command_id", "event_id", "correlation_id", "customer_ref", "sku"
    ]
    """What the text is to the workflow."""
    version: int | None
    """The transition that sent the command or answered the event; null for any other kind."""
    workflow: WorkflowSummary


class SearchResult(Shape):
    """What was found, newest workflow first."""

    q: str
    items: list[Found]
    """The newest 50 at most."""
    more: bool
    """True when there are older ones; ``GET /v1/workflows?sku=`` pages through those of a SKU."""
    freshness: ListFreshness


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
