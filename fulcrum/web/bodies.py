"""What clients send: the body, query and path of every operation, and what each field may hold.

Unknown fields are refused and nothing is converted: a quantity given as text is a fault of the sender.

Long, because it is the whole vocabulary of requests: one short model after another.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated, Any, LiteralString

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.run import Status
from fulcrum.saga.signals import HOLDS, SIGNALS
from fulcrum.saga.verbs import LONGEST_EXTENSION

UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
#: The largest integer that every JSON reader keeps exact; it fits the ``long`` of the messages.
LARGEST = 2**53 - 1
MOST_LINES = 100
MOST_UNITS = 1_000_000
PAGE, LARGEST_PAGE = 50, 200


def one_of(known: Collection[str], remedy: LiteralString) -> AfterValidator:
    names = ", ".join(known)

    def check(value: str) -> str:
        if value not in known:
            raise PydanticCustomError("unknown", remedy, {"names": names})
        return value

    return AfterValidator(check)


def _moment(value: object) -> datetime:
    """A time with its zone, as RFC 3339 has it, in UTC: Postgres knows no zone as far away as +23:47."""
    try:
        known = isinstance(value, str) and _RFC_3339.fullmatch(value) is not None
        found = datetime.fromisoformat(str(value)) if known else None
    except ValueError:
        found = None
    if found is None:
        raise PydanticCustomError("moment", "use a time with its zone, such as 2026-03-01T12:00:00Z")
    try:
        return found.astimezone(UTC)
    except OverflowError:  # in the first or the last year there is; nothing was there then
        return found.replace(tzinfo=UTC)


_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_DEFINITIONS = sorted(DEFINITIONS)
_STATUSES = [str(status) for status in Status]

Sku = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"),
    Field(
        description="Stock keeping unit: letters, digits, dot, underscore and hyphen.", examples=["tea-01"]
    ),
]
#: A name that the client gave to something of its own.
REFERENCE_PATTERN = r"^[!-~]([ -~]{0,126}[!-~])?$"
Reference = Annotated[str, StringConstraints(pattern=REFERENCE_PATTERN)]
Uuid = Annotated[str, StringConstraints(pattern=UUID_PATTERN), Field(json_schema_extra={"format": "uuid"})]
Tenant = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
STEP_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"
StepName = Annotated[str, StringConstraints(pattern=STEP_PATTERN)]
_FLAGS = ("true", "false")
#: Text, so that nothing but these two words passes for a truth.
Flag = Annotated[str, one_of(_FLAGS, "use one of {names}"), Field(json_schema_extra={"enum": list(_FLAGS)})]
Moment = Annotated[AwareDatetime, BeforeValidator(_moment), Field(examples=["2026-03-01T12:00:00Z"])]
Cursor = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,200}={0,2}$"),
    Field(description="The next_cursor of the page before; nothing else is a cursor."),
]
Limit = Annotated[int, Field(ge=1, le=LARGEST_PAGE, description="Items on a page.")]


#: One line in any language: no control characters, and no blank at either end.
PLAIN = r"^[^\x00-\x20\x7f-\xa0]([^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0])?$"


class Body(BaseModel):
    """A JSON body."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def meaning(self) -> dict[str, Any]:
        """What the body says, as JSON."""
        return self.model_dump(mode="json")

    def fingerprint(self) -> bytes:
        """SHA-256 of what the body means: equal for equal bodies, however they were written."""
        canonical = json.dumps(self.meaning(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).digest()


class Parameters(BaseModel):
    """Parameters of a path or a query: text that is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ReceiptBody(Body):
    """Goods that arrived."""

    quantity: Annotated[int, Field(ge=1, le=MOST_UNITS, description="Units.")]
    reference: Annotated[Reference, Field(description="The sender's name for the delivery of goods.")]


class OperatorBody(Body):
    """Who does it, and why: kept with the message."""

    actor: Annotated[Reference, Field(description="Who does it.", examples=["ana"])]
    reason: Annotated[
        str,
        StringConstraints(pattern=r"^[!-~]([ -~]{0,498}[!-~])?$"),
        Field(description="Why.", examples=["the provider is back"]),
    ]


class RequestBody(Body):
    """Why something is asked of a workflow, and whether it is only a rehearsal."""

    reason: Annotated[
        str,
        StringConstraints(min_length=1, max_length=500, pattern=PLAIN),
        Field(
            description="Why: one line, without blanks around it. Kept with the workflow.",
            examples=["the customer called it off"],
        ),
    ]
    dry_run: Annotated[bool, Field(description="Ask for nothing; tell what would follow.")] = False


class CancelBody(RequestBody):
    """Why a workflow is to be undone."""


class StepBody(RequestBody):
    """Which step an operator means, and why."""

    step: Annotated[
        str | None,
        StringConstraints(pattern=STEP_PATTERN),
        Field(description="A step of the definition; without one, the step that the workflow waits for."),
    ] = None


class SkipBody(StepBody):
    """What a step would have answered."""

    result: Annotated[
        dict[str, JsonValue] | None,
        Field(
            description="Fields of the answer that later steps need; expires_at is a time with its zone.",
            examples=[{"authorization_id": "till-17"}],
        ),
    ] = None


class ExtendBody(StepBody):
    """How much more time a step gets."""

    seconds: Annotated[
        int,
        Field(ge=1, le=int(LONGEST_EXTENSION.total_seconds()), description="From now, until it is late."),
    ]


class SignalBody(RequestBody):
    """What a workflow is told, and why."""

    hold: Annotated[
        str,
        one_of(HOLDS, "use one of {names}"),
        Field(description="The hold that begins or is released.", json_schema_extra={"enum": list(HOLDS)}),
    ]


class WorkflowPath(Parameters):
    """One workflow."""

    workflow_id: Annotated[Uuid, Field(description="Id that the intent's answer gave.")]


class SignalPath(WorkflowPath):
    """One workflow, and what it is told."""

    name: Annotated[
        str,
        one_of(SIGNALS, "use one of {names}"),
        Field(description="The signal.", json_schema_extra={"enum": list(SIGNALS)}),
    ]


class WorkflowQuery(Parameters):
    """How new the answer must be."""

    min_version: Annotated[
        int,
        Field(ge=0, le=2**31 - 1, description="Wait a moment until the workflow has reached this version."),
    ] = 0


class EventsQuery(Parameters):
    """Where a stream begins."""

    after: Annotated[
        int,
        Field(ge=0, le=2**31 - 1, description="Begin behind this version. Last-Event-ID, if sent, wins."),
    ] = 0


class WorkflowsQuery(Parameters):
    """Which workflows, and which page of them."""

    status: Annotated[
        str | None,
        one_of(_STATUSES, "use one of {names}"),
        Field(description="Only those of this status.", json_schema_extra={"enum": _STATUSES}),
    ] = None
    paused: Annotated[Flag | None, Field(description="Only paused ones, or only the others.")] = None
    attention: Annotated[
        Flag | None, Field(description="Only those that need attention, or only the others.")
    ] = None
    step: Annotated[
        StepName | None, Field(description="Only those that wait for the answer of this step.")
    ] = None
    tenant: Annotated[Tenant | None, Field(description="Only those of this tenant.")] = None
    definition: Annotated[
        str | None,
        one_of(_DEFINITIONS, "use one of {names}"),
        Field(description="Only those of this definition.", json_schema_extra={"enum": _DEFINITIONS}),
    ] = None
    sku: Annotated[Sku | None, Field(description="Only those with a line of this SKU.")] = None
    older_than: Annotated[
        str | None,
        StringConstraints(pattern=r"^[1-9][0-9]{0,3}[smhd]$"),
        Field(description="Only those that started so long ago or longer.", examples=["90s", "4h", "7d"]),
    ] = None
    started_before: Annotated[Moment | None, Field(description="Only those that started before.")] = None
    started_after: Annotated[Moment | None, Field(description="Only those that started then or later.")] = (
        None
    )
    cursor: Cursor | None = None
    limit: Limit = PAGE


class SearchQuery(Parameters):
    """What to look for."""

    q: Annotated[
        Reference,
        Field(
            description="Id of a workflow, intent, command or event; correlation id; customer_ref; SKU.",
            examples=["order-1"],
        ),
    ]


class SkuPath(Parameters):
    """One SKU."""

    sku: Sku


class ProblemPath(Parameters):
    """One kind of problem."""

    code: Annotated[str, StringConstraints(pattern=r"^[a-z-]{1,40}$"), Field(description="Its code.")]
