"""How an HTTP request becomes the arguments of a handler, and what the handler returns an answer.

An ``Operation`` is one row of the route table; the document at ``/openapi.json`` is made of the same rows.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ValidationError

from fulcrum.errors import Retryable
from fulcrum.store.audit import Act
from fulcrum.web import problem
from fulcrum.web.auditing import act_of, refusals_entered
from fulcrum.web.bodies import REFERENCE_PATTERN, Body, Parameters
from fulcrum.web.problem import FieldError, Problem
from fulcrum.web.services import Services

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
BODY_MOST = 64 * 1024
KEY_HEADER = "Idempotency-Key"
KEY_PATTERN = r"^[ -~]{1,255}$"
_KEY = re.compile(KEY_PATTERN + r"(?<!\n)")
ACTOR_HEADER = "X-Actor"
_ACTOR = re.compile(REFERENCE_PATTERN + r"(?<!\n)")
CORRELATION_HEADER = "X-Correlation-Id"
LAST_HEADER = "Last-Event-ID"


@dataclass(slots=True)
class Call:
    """What belongs to one request beside its input. ``workflow_id`` is noted for the log line.

    ``act`` is what the audit keeps of one that changes something.
    """

    correlation_id: str
    traceparent: str
    workflow_id: str | None = None
    act: Act | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: a model, or JSON text that is already written."""

    body: BaseModel | str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_response(self) -> web.Response:
        """As aiohttp sends it."""
        if self.status == 204:
            return web.Response(status=204, headers=self.headers)
        text = self.body if isinstance(self.body, str) else self.body.model_dump_json()
        return web.Response(text=text, status=self.status, content_type=JSON, headers=self.headers)


@dataclass(frozen=True, slots=True)
class Streamed:
    """A success that goes on: server-sent events, each as the text that is sent, until they end."""

    events: AsyncGenerator[str]

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Send event by event; a client that leaves ends it."""
        response = web.StreamResponse(
            headers={
                "Content-Type": EVENT_STREAM,
                # Neither a cache nor a proxy that buffers may hold an event back.
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
                CORRELATION_HEADER: request[CALL].correlation_id,
            }
        )
        # What was sent cannot be taken back, so whatever fails from here on ends the stream; the client
        # comes again with the last id it saw.
        with suppress(ConnectionError, Retryable):
            await response.prepare(request)
            if request.method == "HEAD":
                return response
            async with aclosing(self.events) as events:
                async for event in events:
                    await response.write(event.encode())
        return response


#: ``await handler(services, call, path=..., query=..., body=..., key=..., actor=..., last=...)``, with what
#: the operation has.
Handler = Callable[..., Awaitable[Answer | Streamed]]
CALL = web.RequestKey("call", Call)


@dataclass(frozen=True)
class Operation:
    """One method of one path: what it takes, what it answers, and the problems it may answer with.

    A ``keyed`` one takes an ``Idempotency-Key``, which may be missing if ``key_optional``; an ``acted`` one
    takes the name of who asks. A ``streamed`` one answers with server-sent events, and takes the id of the
    last one that the client saw. An answer without a model has no body.

    ``audited`` is what the audit calls it: the kind of its target, a dot, and what is done. Its handler
    enters what it does; what it refuses is entered here.
    """

    method: str
    path: str
    handler: Handler
    answers: Mapping[int, type[BaseModel] | None]
    problems: tuple[str, ...] = ()
    path_model: type[Parameters] | None = None
    query_model: type[Parameters] | None = None
    body_model: type[Body] | None = None
    keyed: bool = False
    key_optional: bool = False
    acted: bool = False
    streamed: bool = False
    audited: str | None = None

    @cached_property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return (self.handler.__doc__ or "").strip().splitlines()[0]

    @cached_property
    def description(self) -> str:
        """The rest of the handler's docstring."""
        return inspect.cleandoc((self.handler.__doc__ or "").partition("\n")[2])

    @cached_property
    def name(self) -> str:
        """A name for generated clients."""
        return self.handler.__name__

    def bind(self, services: Services) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The operation as aiohttp calls it."""

        async def handle(request: web.Request) -> web.StreamResponse:
            arguments = await self._arguments(request)
            call = request[CALL]
            if self.audited is not None and not getattr(arguments.get("body"), "dry_run", False):
                call.act = act_of(self.audited, call, request.match_info, arguments)
            async with refusals_entered(services, call):
                answer = await self.handler(services, call, **arguments)
            if isinstance(answer, Streamed):
                return await answer.send(request)
            return answer.to_response()

        return handle

    async def _arguments(self, request: web.Request) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        if self.path_model is not None:
            arguments["path"] = _parameters(self.path_model, dict(request.match_info))
        if self.query_model is not None:
            arguments["query"] = _parameters(self.query_model, _single(request))
        if self.keyed:
            arguments["key"] = _key(request, self.key_optional)
        if self.acted:
            arguments["actor"] = _actor(request)
        if self.streamed:
            arguments["last"] = _last(request)
        if self.body_model is not None:
            arguments["body"] = await _body(self.body_model, request)
        return arguments


def _parameters(model: type[Parameters], given: Mapping[str, str]) -> Parameters:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise problem.from_parameters(error) from error


def _single(request: web.Request) -> dict[str, str]:
    """The query, with each name once: which of two values was meant nobody can tell."""
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name in given:
            fault = FieldError("parameter", name, f"{name[:80]} is given more than once; give it once.")
            raise Problem("invalid-parameter", fault.detail, [fault])
        given[name] = value
    return given


def _key(request: web.Request, optional: bool) -> str | None:
    values = request.headers.getall(KEY_HEADER, [])
    if not values and optional:
        return None
    if not values:
        detail = f"{KEY_HEADER} is missing; send a new one with each new request."
    elif len(values) > 1:
        detail = f"{KEY_HEADER} is sent {len(values)} times; send it once."
    elif not _KEY.match(values[0]):
        detail = f"{KEY_HEADER} has {len(values[0])} characters; send 1 to 255 printable ASCII characters."
    else:
        return values[0]
    raise Problem("idempotency-key", detail, [FieldError("header", KEY_HEADER, detail)])


def _actor(request: web.Request) -> str | None:
    values = request.headers.getall(ACTOR_HEADER, [])
    if not values:
        return None
    if len(values) == 1 and _ACTOR.match(values[0]):
        return values[0]
    detail = f"{ACTOR_HEADER} cannot be used; send it once, with 1 to 128 printable ASCII characters."
    raise Problem("invalid-parameter", detail, [FieldError("header", ACTOR_HEADER, detail)])


def _last(request: web.Request) -> int | None:
    """The id that the client saw last: a version. None when it saw none."""
    given = request.headers.get(LAST_HEADER, "")
    if not given:
        return None
    if given.isascii() and given.isdigit() and len(given) < 10:
        return int(given)
    detail = f"{LAST_HEADER} is {given[:80]!r}; send back an id that this stream gave, or none."
    raise Problem("invalid-parameter", detail, [FieldError("header", LAST_HEADER, detail)])


async def _body(model: type[Body], request: web.Request) -> Body:
    if request.content_type != JSON or (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
        sent = request.headers.get("Content-Type", "nothing")
        raise Problem(
            "unsupported-media-type",
            f"Content-Type is {sent[:80]!r}; send {JSON}, encoded as UTF-8.",
            headers={"Accept-Post": JSON},
        )
    try:
        raw = await request.read()
    except (ConnectionError, web.RequestPayloadError) as error:
        raise Problem("malformed-json", f"The body did not arrive whole: {error}.") from error
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise problem.from_body(error) from error
