"""What happens around every request: who it belongs to, how a failure is told, what is logged and counted."""

from __future__ import annotations

import re
import time
from uuid import uuid4

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from fulcrum.errors import FulcrumError
from fulcrum.telemetry import metrics
from fulcrum.telemetry.logs import bound
from fulcrum.telemetry.trace import child_of
from fulcrum.web import problem
from fulcrum.web.operation import BODY_MOST, CALL, CORRELATION_HEADER, Call
from fulcrum.web.problem import Problem

log = structlog.get_logger()

_SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")
#: Asked for every few seconds by machines, and worth no line.
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
#: Any other method is counted under one label: a client can make up names without end.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its correlation id and trace; log and count its answer."""
    correlation_id = request.headers.get(CORRELATION_HEADER, "")
    if not _SANE.match(correlation_id):
        correlation_id = str(uuid4())
    call = Call(correlation_id, child_of(request.headers.get("traceparent")))
    request[CALL] = call
    started = time.perf_counter()
    with bound(correlation_id=call.correlation_id, traceparent=call.traceparent):
        response = await handler(request)
        if not response.prepared:
            response.headers[CORRELATION_HEADER] = call.correlation_id
        _record(request, response, call, time.perf_counter() - started)
    return response


@web.middleware
async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every failure into a problem that the client can read."""
    try:
        return await handler(request)
    except Problem as error:
        found = error
    except FulcrumError as error:
        found = problem.from_error(error)
        if found.code == "internal":
            log.exception("http.failed")
    except web.HTTPException as error:
        found = _from_aiohttp(error, request)
    except Exception:
        log.exception("http.failed")
        found = Problem("internal", "The request could not be carried out.")
    return web.json_response(
        found.to_dict(request.path, request[CALL].correlation_id),
        status=found.kind.status,
        content_type=problem.CONTENT_TYPE,
        headers=found.headers,
    )


def _from_aiohttp(error: web.HTTPException, request: web.Request) -> Problem:
    if isinstance(error, web.HTTPNotFound):
        return Problem("not-found", f"There is nothing at {request.path[:200]}; see /openapi.json.")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Problem(
            "method-not-allowed",
            f"{request.path[:200]} has no {request.method[:20]}; use {allowed}.",
            headers={hdrs.ALLOW: allowed},
        )
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return Problem("body-too-large", f"The body is larger than {BODY_MOST} bytes; send less.")
    raise error


def _record(request: web.Request, response: web.StreamResponse, call: Call, seconds: float) -> None:
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "unmatched"
    method = request.method if request.method in _METHODS else "other"
    metrics.http_requests.labels(method, route, str(response.status)).inc()
    metrics.http_seconds.labels(method, route).observe(seconds)
    if route in _PROBES:
        return
    more = {"workflow_id": call.workflow_id} if call.workflow_id else {}
    log.info(
        "http.request",
        method=method,
        route=route,
        path=request.path[:200],
        status=response.status,
        ms=round(seconds * 1000, 2),
        **more,
    )
