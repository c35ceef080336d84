"""What operators send to act on many workflows: which ones, and what the verb needs beside its name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, JsonValue, StringConstraints
from pydantic_core import PydanticCustomError

from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.run import Status
from fulcrum.saga.verbs import LONGEST_EXTENSION, MIGRATE, Verb
from fulcrum.web.bodies import Body, Uuid, one_of

_STEP = StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")
_OLDEST = 10 * 365 * 24 * 3600
_LONGEST = int(LONGEST_EXTENSION.total_seconds())
_STATUSES = [str(status) for status in Status]
_DEFINITIONS = sorted(DEFINITIONS)
#: Which arguments a verb takes; one that is not here takes none.
TAKES: Mapping[str, tuple[str, ...]] = {
    Verb.RETRY: ("step",),
    Verb.SKIP: ("step", "result"),
    Verb.COMPENSATE: ("step",),
    Verb.EXTEND: ("step", "seconds"),
    MIGRATE: ("definition",),
}


class WorkflowSelection(Body):
    """Which workflows: all that is given must hold, and something must be."""

    ids: Annotated[tuple[Uuid, ...], Field(max_length=1000, description="Only these.")] = ()
    status: Annotated[
        str | None,
        one_of(_STATUSES, "use one of {names}"),
        Field(description="Only those of this status.", json_schema_extra={"enum": _STATUSES}),
    ] = None
    step: Annotated[str | None, _STEP, Field(description="Only those that wait for this step.")] = None
    definition: Annotated[
        str | None,
        one_of(_DEFINITIONS, "use one of {names}"),
        Field(description="Only those of this definition.", json_schema_extra={"enum": _DEFINITIONS}),
    ] = None
    tenant: Annotated[
        str | None,
        StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$"),
        Field(description="Only those of this tenant."),
    ] = None
    older_than: Annotated[
        int | None, Field(ge=0, le=_OLDEST, description="Only those that started so many seconds ago.")
    ] = None


class VerbArguments(Body):
    """What is asked of each workflow, beside the verb."""

    step: Annotated[
        str | None, _STEP, Field(description="A step; without one, the step that a workflow waits for.")
    ] = None
    seconds: Annotated[
        int | None,
        Field(
            ge=1, le=int(LONGEST_EXTENSION.total_seconds()), description="extend: until it is late, from now."
        ),
    ] = None
    result: Annotated[
        dict[str, JsonValue] | None, Field(description="skip: fields of the answer that later steps need.")
    ] = None

    definition: Annotated[
        str | None,
        one_of(_DEFINITIONS, "use one of {names}"),
        Field(
            description="migrate: the definition that each goes on under.",
            json_schema_extra={"enum": _DEFINITIONS},
        ),
    ] = None

    def as_wished(self) -> dict[str, Any]:
        """What is given, as a wish has it."""
        given: dict[str, Any] = self.model_dump(exclude_none=True)
        if self.result is not None:
            given["result"] = json.dumps(self.result, sort_keys=True, separators=(",", ":"))
        if self.definition is not None:
            given["result"] = json.dumps({"definition": given.pop("definition")}, separators=(",", ":"))
        return given


def refuse_arguments(verb: str | None, arguments: VerbArguments) -> None:
    """Raise the fault of an argument that ``verb`` does not take, or lacks. None, no verb, takes none."""
    takes = TAKES.get(verb or "", ())
    for name, value in arguments.model_dump(exclude_none=True).items():
        if name not in takes:
            told = "leave it out: this kind takes " + (", ".join(takes) or "no arguments")
            raise PydanticCustomError(
                "untaken", "{told}", {"told": told, "at": ("arguments", name), "value": value}
            )
    if verb == MIGRATE and arguments.definition is None:
        raise PydanticCustomError(
            "definition",
            "say under which definition they go on",
            {"at": ("arguments", "definition"), "value": None},
        )
    if verb == Verb.EXTEND and arguments.seconds is None:
        raise PydanticCustomError(
            "seconds", "say how many seconds each step gets", {"at": ("arguments", "seconds"), "value": None}
        )
