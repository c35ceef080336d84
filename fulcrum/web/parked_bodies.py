"""What operators send: which parked messages or workflows they mean, and what is to be done to them."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from fulcrum.commands.parking import STATUSES as PARKED_STATUSES
from fulcrum.operations.accounting import ITEM_STATES, STATES
from fulcrum.operations.kinds import WORKFLOW_KINDS, verb_of
from fulcrum.operations.plan import MOST
from fulcrum.store.relations import SERVICE_SCHEMAS
from fulcrum.web.bodies import (
    PAGE,
    PLAIN,
    Body,
    Cursor,
    Limit,
    Moment,
    OperatorBody,
    Parameters,
    Reference,
    Uuid,
    one_of,
)
from fulcrum.web.workflow_bodies import VerbArguments, WorkflowSelection, refuse_arguments


def _storable(value: Any) -> Any:
    """NUL is JSON, but nothing that Postgres keeps."""
    if "\\u0000" in json.dumps(value):
        raise PydanticCustomError("nul", "leave the character NUL out")
    return value


Name = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,128}$")]
ParkedService = Annotated[Name, Field(description="Only those of this service; `events` are those of Kafka.")]
ParkedType = Annotated[Name, Field(description="Only those of this message type.")]
ParkedGroup = Annotated[Name, Field(description="Only those of this group: its fingerprint.")]
ParkedWorkflow = Annotated[Uuid, Field(description="Only those of this workflow.")]
ParkedMessageId = Annotated[Name, Field(description="Only those of this message id.")]
ParkedSince = Annotated[Moment, Field(description="Only those parked then or later.")]
ParkedUntil = Annotated[Moment, Field(description="Only those parked before.")]
ParkedStatus = Annotated[
    str,
    one_of(PARKED_STATUSES, "use one of {names}"),
    Field(description="Only those of this status.", json_schema_extra={"enum": list(PARKED_STATUSES)}),
]


class NoteBody(Body):
    """What is known about a group of parked messages, and who looks after it."""

    actor: Annotated[Reference, Field(description="Who says it.", examples=["ana"])]
    note: Annotated[
        str, StringConstraints(min_length=1, max_length=2000, pattern=PLAIN), Field(description="One line.")
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


_KINDS = ("replay", "discard", "restore", *WORKFLOW_KINDS)


def _of_kind(given: Any, handler: Any, info: ValidationInfo) -> SelectionBody | WorkflowSelection:
    """The selection as the kind of the operation has it: a union would tell the faults of both."""
    kind = info.data.get("kind")
    if isinstance(given, Body) or kind is None:
        return handler(given)  # type: ignore[no-any-return]
    if verb_of(kind) is None:
        return SelectionBody.model_validate_json(json.dumps(given))
    chosen = WorkflowSelection.model_validate_json(json.dumps(given))
    if chosen == WorkflowSelection():
        raise PydanticCustomError(
            "everything", "say which workflows, by ids or by a filter", {"value": given}
        )
    return chosen


class OperationBody(OperatorBody):
    """What to do to which parked messages or workflows. They are fixed now: later ones are not taken."""

    kind: Annotated[
        str, one_of(_KINDS, "use one of {names}"), Field(json_schema_extra={"enum": list(_KINDS)})
    ]
    selection: Annotated[SelectionBody | WorkflowSelection, WrapValidator(_of_kind)]
    arguments: VerbArguments = VerbArguments()
    dry_run: Annotated[bool, Field(description="Only tell what would be taken.")] = False
    limit: Annotated[int | None, Field(ge=1, le=MOST, description="Take so many at most, oldest first.")] = (
        None
    )
    rate: Annotated[float | None, Field(ge=0.01, le=1000, description="Items a second at most.")] = None
    canary: Annotated[
        int, Field(ge=0, le=1000, description="Take so many first, and the rest if none of them fails.")
    ] = 0
    stop_ratio: Annotated[
        float | None, Field(ge=0, le=1, description="Stop when a larger share than this has failed.")
    ] = None

    @model_validator(mode="after")
    def _check(self) -> OperationBody:
        refuse_arguments(verb_of(self.kind), self.arguments)
        return self


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


class GroupPath(Parameters):
    """One group of parked messages."""

    group: Annotated[
        str, StringConstraints(pattern=r"^[0-9a-f]{1,64}$"), Field(description="Its fingerprint.")
    ]


class KeysQuery(Parameters):
    """How many parked keys."""

    limit: Limit = PAGE


class KeyPath(Parameters):
    """One parked key of an outbox."""

    outbox: Annotated[
        str,
        one_of(SERVICE_SCHEMAS, "use one of {names}"),
        Field(description="The outbox.", json_schema_extra={"enum": list(SERVICE_SCHEMAS)}),
    ]
    key: Annotated[
        str,
        StringConstraints(
            pattern=r"^([A-Za-z0-9_-]{4}){0,60}([A-Za-z0-9_-]{4}|[A-Za-z0-9_-]{2}==|[A-Za-z0-9_-]{3}=)$"
        ),
        Field(description="The key as the list shows it: base64 that is safe in addresses."),
    ]


class OperationPath(Parameters):
    """One operation."""

    operation_id: Annotated[Uuid, Field(description="Id that its creation gave.")]


class OperationsQuery(Parameters):
    """Which operations, and which page of them."""

    state: Annotated[
        str | None,
        one_of(STATES, "use one of {names}"),
        Field(description="Only those of this state.", json_schema_extra={"enum": list(STATES)}),
    ] = None
    cursor: Cursor | None = None
    limit: Limit = PAGE


class ItemsQuery(Parameters):
    """Which items of an operation, and which page of them."""

    state: Annotated[
        str | None,
        one_of(ITEM_STATES, "use one of {names}"),
        Field(description="Only those of this state.", json_schema_extra={"enum": list(ITEM_STATES)}),
    ] = None
    after: Annotated[int, Field(ge=0, le=2**31 - 1, description="Only those behind this number.")] = 0
    limit: Limit = PAGE
