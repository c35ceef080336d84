"""What clients send: the body, query and path of every operation, and what each field may hold.

Unknown fields are refused and nothing is converted: a quantity given as text is a fault of the sender.

Long, because it is one short model after another: what the API takes, on one screen after the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, LiteralString

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from fulcrum.commands.parking import STATUSES as PARKED_STATUSES
from fulcrum.operations.accounting import ITEM_STATES, STATES
from fulcrum.operations.plan import MOST
from fulcrum.saga.definitions import DEFAULT_DEFINITION, DEFINITIONS
from fulcrum.saga.run import Status
from fulcrum.store.relations import SERVICE_SCHEMAS
from fulcrum.web.currencies import CURRENCIES

UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
#: The largest integer that every JSON reader keeps exact; it fits the ``long`` of the messages.
LARGEST = 2**53 - 1
MOST_LINES = 100
MOST_UNITS = 1_000_000
PAGE, LARGEST_PAGE = 50, 200


def _one_of(known: Collection[str], remedy: LiteralString) -> AfterValidator:
    names = ", ".join(known)

    def check(value: str) -> str:
        if value not in known:
            raise PydanticCustomError("unknown", remedy, {"names": names})
        return value

    return AfterValidator(check)


def _iso_8601(value: object) -> datetime:
    """A time in UTC. Seconds since 1970 would be taken too, and are more often a mistake."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) and value[4:5] == "-" else None
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise PydanticCustomError(
            "moment", "give a time in ISO 8601 with its zone, such as 2026-03-01T10:00:00Z"
        )
    try:
        return found.astimezone(UTC)
    except OverflowError:  # in the first or the last year there is; nothing is parked there
        return found.replace(tzinfo=UTC)


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
Cursor = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,200}={0,2}$"),
    Field(description="The next_cursor of the page before; nothing else is a cursor."),
]
Limit = Annotated[int, Field(ge=1, le=LARGEST_PAGE, description="Items on a page.")]


#: One line in any language: no control characters, and no blank at either end.
_PLAIN = r"^[^\x00-\x20\x7f-\xa0]([^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0])?$"


Name = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,128}$")]
ParkedService = Annotated[Name, Field(description="Only those of this service; `events` are those of Kafka.")]
ParkedType = Annotated[Name, Field(description="Only those of this message type.")]
ParkedGroup = Annotated[Name, Field(description="Only those of this group: its fingerprint.")]
ParkedWorkflow = Annotated[Uuid, Field(description="Only those of this workflow.")]
ParkedMessageId = Annotated[Name, Field(description="Only those of this message id.")]
Moment = Annotated[AwareDatetime, BeforeValidator(_iso_8601)]
ParkedSince = Annotated[Moment, Field(description="Only those parked then or later.")]
ParkedUntil = Annotated[Moment, Field(description="Only those parked before.")]
ParkedStatus = Annotated[
    str,
    _one_of(PARKED_STATUSES, "use one of {names}"),
    Field(description="Only those of this status.", json_schema_extra={"enum": list(PARKED_STATUSES)}),
]


class Body(BaseModel):
    """A JSON body."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def fingerprint(self) -> bytes:
        """SHA-256 of what the body means: equal for equal bodies, however they were written."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).digest()


class Parameters(BaseModel):
    """Parameters of a path or a query: text that is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LineBody(Body):
    """So many units of one SKU."""

    sku: Sku
    quantity: Annotated[int, Field(ge=1, le=MOST_UNITS, description="Units.")]


def _storable(value: Any) -> Any:
    """NUL is JSON, but nothing that Postgres keeps."""
    if "\\u0000" in json.dumps(value):
        raise PydanticCustomError("nul", "leave the character NUL out")
    return value


def _one_line_a_sku(lines: tuple[LineBody, ...]) -> tuple[LineBody, ...]:
    """Two lines of one SKU are a mistake more often than a wish, so they are refused and not added up."""
    first: dict[str, int] = {}
    for number, line in enumerate(lines):
        if first.setdefault(line.sku, number) != number:
            raise PydanticCustomError(
                "duplicate_sku",
                "lines[{first}] has it too; put the sum of both into one line",
                {"first": first[line.sku], "at": (number, "sku"), "value": line.sku},
            )
    return lines


class IntentBody(Body):
    """What is to be fulfilled: taken from stock, paid, and shipped."""

    tenant: Annotated[
        str,
        StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$"),
        Field(description="Who the intent belongs to.", examples=["acme"]),
    ]
    customer_ref: Annotated[
        Reference, Field(description="The tenant's own name for the customer; no personal data.")
    ]
    lines: Annotated[
        tuple[LineBody, ...],
        Field(min_length=1, max_length=MOST_LINES, description="What is ordered, one entry per SKU."),
        AfterValidator(_one_line_a_sku),
    ]
    amount_minor: Annotated[
        int, Field(gt=0, le=LARGEST, description="Amount to pay, in the currency's minor unit.")
    ]
    currency: Annotated[
        str,
        _one_of(CURRENCIES, "use an ISO 4217 code of three capital letters that is in circulation"),
        Field(description="ISO 4217 code.", json_schema_extra={"enum": sorted(CURRENCIES)}, examples=["EUR"]),
    ]
    payment_method: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$"),
        Field(description="Token of the payment method at the provider.", examples=["pay_ok"]),
    ]
    ship_to: Annotated[Reference, Field(description="The tenant's reference to the address.")]
    definition: Annotated[
        str,
        _one_of(_DEFINITIONS, "use one of {names}"),
        Field(description="The workflow to run.", json_schema_extra={"enum": _DEFINITIONS}),
    ] = DEFAULT_DEFINITION


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


class NoteBody(Body):
    """What is known about a group of parked messages, and who looks after it."""

    actor: Annotated[Reference, Field(description="Who says it.", examples=["ana"])]
    note: Annotated[
        str, StringConstraints(min_length=1, max_length=2000, pattern=_PLAIN), Field(description="One line.")
    ]
    owner: Annotated[Reference | None, Field(description="Who looks after it; null: nobody.")] = None


class PatchStep(Body):
    """One step of a JSON Patch (RFC 6902)."""

    op: Literal["add", "remove", "replace", "test"]
    path: Annotated[str, StringConstraints(pattern=r"^(/[ -~]{0,200})?$"), Field(description="JSON pointer.")]
    value: Annotated[Any, AfterValidator(_storable), Field(description="What to put or to expect there.")] = (
        None
    )


class EditBody(OperatorBody):
    """How a parked message is changed before it is sent under a new id."""

    patch: Annotated[
        tuple[PatchStep, ...],
        Field(min_length=1, max_length=50, description="JSON Patch of the decoded body; not of its id."),
    ]


class SelectionBody(Body):
    """Which parked messages: all that is given must hold. Without a status, those that can be taken."""

    ids: Annotated[tuple[Uuid, ...], Field(max_length=1000, description="Only these.")] = ()
    status: ParkedStatus | None = None
    service: ParkedService | None = None
    type: ParkedType | None = None
    group: ParkedGroup | None = None
    workflow_id: ParkedWorkflow | None = None
    message_id: ParkedMessageId | None = None
    since: ParkedSince | None = None
    until: ParkedUntil | None = None


class OperationBody(OperatorBody):
    """What to do to which parked messages. They are fixed now: what is parked later is not among them."""

    kind: Literal["replay", "discard", "restore"]
    selection: SelectionBody
    dry_run: Annotated[bool, Field(description="Only tell what would be taken.")] = False
    limit: Annotated[int | None, Field(ge=1, le=MOST, description="Take so many at most, oldest first.")] = (
        None
    )
    rate: Annotated[float | None, Field(ge=0.01, le=1000, description="Messages a second at most.")] = None
    canary: Annotated[
        int, Field(ge=0, le=1000, description="Send so many first, and the rest if none parks again.")
    ] = 0
    stop_ratio: Annotated[
        float | None, Field(ge=0, le=1, description="Stop when a larger share than this has failed.")
    ] = None


class CancelBody(Body):
    """Why a workflow is to be undone."""

    reason: Annotated[
        str,
        StringConstraints(min_length=1, max_length=500, pattern=_PLAIN),
        Field(
            description="Why: one line, without blanks around it. Kept with the workflow.",
            examples=["the customer called it off"],
        ),
    ]


class WorkflowPath(Parameters):
    """One workflow."""

    workflow_id: Annotated[Uuid, Field(description="Id that the intent's answer gave.")]


class WorkflowQuery(Parameters):
    """How new the answer must be."""

    min_version: Annotated[
        int,
        Field(ge=0, le=2**31 - 1, description="Wait a moment until the workflow has reached this version."),
    ] = 0


class WorkflowsQuery(Parameters):
    """Which workflows, and which page of them."""

    status: Annotated[
        str | None,
        _one_of(_STATUSES, "use one of {names}"),
        Field(description="Only those of this status.", json_schema_extra={"enum": _STATUSES}),
    ] = None
    cursor: Cursor | None = None
    limit: Limit = PAGE


class ParkedQuery(Parameters):
    """Which parked messages, and which page of them."""

    service: ParkedService | None = None
    type: ParkedType | None = None
    group: ParkedGroup | None = None
    workflow_id: ParkedWorkflow | None = None
    message_id: ParkedMessageId | None = None
    since: ParkedSince | None = None
    until: ParkedUntil | None = None
    status: ParkedStatus | None = None
    cursor: Cursor | None = None
    limit: Limit = PAGE


class ParkedPath(Parameters):
    """One parked message."""

    parked_id: Annotated[Uuid, Field(description="Its id in the list of parked messages.")]


class GroupsQuery(Parameters):
    """Which groups of parked messages."""

    service: ParkedService | None = None
    limit: Limit = PAGE


class KeysQuery(Parameters):
    """How many parked keys."""

    limit: Limit = PAGE


class KeyPath(Parameters):
    """One parked key of an outbox."""

    outbox: Annotated[
        str,
        _one_of(SERVICE_SCHEMAS, "use one of {names}"),
        Field(description="The outbox.", json_schema_extra={"enum": list(SERVICE_SCHEMAS)}),
    ]
    key: Annotated[
        str,
        StringConstraints(
            pattern=r"^([A-Za-z0-9_-]{4}){0,60}([A-Za-z0-9_-]{4}|[A-Za-z0-9_-]{2}==|[A-Za-z0-9_-]{3}=)$"
        ),
        Field(description="The key as the list shows it: base64 that is safe in addresses."),
    ]


class GroupPath(Parameters):
    """One group of parked messages."""

    group: Annotated[
        str, StringConstraints(pattern=r"^[0-9a-f]{1,64}$"), Field(description="Its fingerprint.")
    ]


class OperationPath(Parameters):
    """One operation."""

    operation_id: Annotated[Uuid, Field(description="Id that its creation gave.")]


class OperationsQuery(Parameters):
    """Which operations, and which page of them."""

    state: Annotated[
        str | None,
        _one_of(STATES, "use one of {names}"),
        Field(description="Only those of this state.", json_schema_extra={"enum": list(STATES)}),
    ] = None
    cursor: Cursor | None = None
    limit: Limit = PAGE


class ItemsQuery(Parameters):
    """Which items of an operation, and which page of them."""

    state: Annotated[
        str | None,
        _one_of(ITEM_STATES, "use one of {names}"),
        Field(description="Only those of this state.", json_schema_extra={"enum": list(ITEM_STATES)}),
    ] = None
    after: Annotated[int, Field(ge=0, le=2**31 - 1, description="Only those behind this number.")] = 0
    limit: Limit = PAGE


class SkuPath(Parameters):
    """One SKU."""

    sku: Sku


class ProblemPath(Parameters):
    """One kind of problem."""

    code: Annotated[str, StringConstraints(pattern=r"^[a-z-]{1,40}$"), Field(description="Its code.")]
