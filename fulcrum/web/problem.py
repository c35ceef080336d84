"""Every answer that is no success: RFC 9457 problem details. Pure.

``KINDS`` is the list of all of them; the ``type`` of a problem is the address of its entry.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fulcrum.errors import Conflict, FulcrumError, NotFound, Rejected, Retryable

CONTENT_TYPE = "application/problem+json"
_SHOWN_MOST = 80
_FAULTS_MOST = 100
#: Fields whose value is not repeated in an error: what a client puts there by mistake may be a card.
_NOT_SHOWN = frozenset({"payment_method"})
#: How pydantic's messages begin.
_SUBJECT = re.compile(r"^(Input|String|Tuple|Value error,)(?= )")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem: its status, its name for people, and what the client can do."""

    status: int
    title: str
    remedy: str
    retryable: bool = False


KINDS: Mapping[str, Kind] = {
    "malformed-json": Kind(400, "The body is not JSON", "Send one JSON object, encoded as UTF-8."),
    "invalid-parameter": Kind(
        400,
        "A parameter cannot be used",
        "Correct what `errors` names: a parameter of path or query, or a header.",
    ),
    "idempotency-key": Kind(
        400,
        "The Idempotency-Key cannot be used",
        "Send Idempotency-Key: 1 to 255 printable ASCII characters, a new one for each new request.",
    ),
    "switched-off": Kind(
        403, "This is switched off", "Ask who runs Fulcrum to set what `detail` names, or do without it."
    ),
    "not-found": Kind(404, "There is no such thing", "Check the id or the path."),
    "method-not-allowed": Kind(405, "The path has no such method", "Use a method named by the header Allow."),
    "key-reused": Kind(
        409,
        "The Idempotency-Key belongs to another body",
        "Repeat a request with its own body, or send another request under a new key.",
    ),
    "already-completed": Kind(
        409,
        "The workflow is completed",
        "Nothing is undone any more; handle it as a return of what was delivered.",
    ),
    "already-terminated": Kind(
        409,
        "The workflow is terminated",
        "Nothing is undone any more; settle by hand what the workflow shows as left standing.",
    ),
    "conflict": Kind(409, "What is there already does not allow this", "Read it again and decide anew."),
    "body-too-large": Kind(413, "The body is too large", "Send at most 64 KiB."),
    "unsupported-media-type": Kind(
        415, "The body's type is not understood", "Send Content-Type: application/json."
    ),
    "invalid-body": Kind(
        422, "The body has faults", "Correct the fields that `errors` names, each by its JSON pointer."
    ),
    "internal": Kind(
        500, "A fault in Fulcrum", "Report it with the correlation id; the log has the details."
    ),
    "unavailable": Kind(
        503,
        "A server that this needs does not answer",
        "Repeat the request after Retry-After, with the same key.",
        retryable=True,
    ),
    "too-slow": Kind(
        503,
        "The answer takes too long",
        "Ask for less: a shorter time by started_after, a status, a tenant; or repeat it after Retry-After.",
        retryable=True,
    ),
    "too-many-watchers": Kind(
        503,
        "This process carries no more event streams",
        "Come again after Retry-After, or read the workflow with min_version instead.",
        retryable=True,
    ),
    "not-yet": Kind(
        503,
        "The workflow has not reached the version yet",
        "Repeat the request after Retry-After.",
        retryable=True,
    ),
}
PATH = "/problems/{code}"
RETRY_AFTER = 1


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field; ``where`` says in which part of the request, ``name`` which."""

    where: Literal["pointer", "parameter", "header"]
    name: str
    detail: str


@dataclass(eq=False)
class Problem(Exception):
    """Answer the request with this problem. ``code`` is one of ``KINDS``."""

    code: str
    detail: str
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """The entry of ``KINDS``."""
        return KINDS[self.code]

    def to_dict(self, instance: str, correlation_id: str) -> dict[str, Any]:
        """The body, for the request to ``instance``."""
        body: dict[str, Any] = {
            "type": PATH.format(code=self.code),
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            "retryable": self.kind.retryable,
            "correlation_id": correlation_id,
        }
        if self.errors:
            body["errors"] = [{error.where: error.name, "detail": error.detail} for error in self.errors]
        return body


def from_error(error: FulcrumError) -> Problem:
    """The problem that an error of the lower layers means to a client."""
    if isinstance(error, NotFound):
        return Problem("not-found", str(error))
    if isinstance(error, Conflict):
        return Problem("conflict", str(error))
    if isinstance(error, Rejected):
        return Problem("invalid-body", str(error))
    if isinstance(error, Retryable):
        return Problem("unavailable", str(error), headers={"Retry-After": str(RETRY_AFTER)})
    return Problem("internal", "The request could not be carried out.")


def from_body(error: ValidationError) -> Problem:
    """The problem with a body that a model refused: its faults at once."""
    faults = error.errors(include_url=False)[:_FAULTS_MOST]
    if faults[0]["type"] == "json_invalid":
        return Problem("malformed-json", f"The body cannot be parsed: {faults[0]['ctx']['error']}.")
    errors = [
        FieldError("pointer", _pointer(_place(fault)), _describe(fault)) for fault in _innermost(faults)
    ]
    return Problem("invalid-body", _summary(errors), errors)


def from_parameters(error: ValidationError) -> Problem:
    """The problem with parameters of path or query that a model refused."""
    errors = [
        FieldError("parameter", ".".join(str(part) for part in fault["loc"]), _describe(fault))
        for fault in error.errors(include_url=False)[:_FAULTS_MOST]
    ]
    return Problem("invalid-parameter", _summary(errors), errors)


def _summary(errors: Sequence[FieldError]) -> str:
    more = f" ({len(errors) - 1} more in `errors`)" if len(errors) > 1 else ""
    return f"{errors[0].detail}{more}"


def _innermost(faults: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Leave out what only follows from a fault further inside (such as a list without a valid item)."""
    for fault in faults:
        place = fault["loc"]
        if not any(len(other["loc"]) > len(place) == _shared(place, other["loc"]) for other in faults):
            yield fault


def _shared(one: Sequence[int | str], other: Sequence[int | str]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))


def _place(fault: ErrorDetails) -> tuple[int | str, ...]:
    """Where the fault is; a rule about several fields says in its context which one to change."""
    return (*fault["loc"], *fault.get("ctx", {}).get("at", ()))


def _pointer(place: Iterable[int | str]) -> str:
    """The place as a JSON pointer in URI fragment form; ``#`` is the whole body."""
    return "#" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)


def _describe(fault: ErrorDetails) -> str:
    """One sentence with field, value and remedy."""
    place = _place(fault)
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    name = name.removeprefix(".") or "the body"
    if fault["type"] == "missing":
        return f"{name} is missing; add it."
    if fault["type"] == "extra_forbidden":
        return f"{name} is unknown; leave it out or correct its name."
    remedy = _SUBJECT.sub("it", fault["msg"])
    if place and place[-1] in _NOT_SHOWN:
        return f"{name} cannot be used (its value is not repeated here): {remedy}."
    return f"{name} is {_shown(fault)}: {remedy}."


def _shown(fault: ErrorDetails) -> str:
    value = fault.get("ctx", {}).get("value", fault["input"])
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return f"an array of {len(value)}"
    shown = json.dumps(value, default=str)
    return shown if len(shown) <= _SHOWN_MOST else f"{shown[:_SHOWN_MOST]}..."
