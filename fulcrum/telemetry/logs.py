"""How does a log line look, and what does it say of the message at hand?

``structlog.get_logger()`` everywhere; one dotted event name a line (``command.handled``) with its facts as
keys. Libraries that log through the standard library come out in the same form.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

from fulcrum.settings import Settings

#: Libraries whose "info" is a running commentary.
_NOISY = (
    "alembic",
    "aio_pika",
    "aiohttp.access",
    "aiokafka",
    "aiormq",
    "faust",
    "httpcore",
    "httpcore2",
    "httpx",
    "httpx2",
    "mode",
    "urllib3",
)

#: One variable for all keys: setting it is ten times cheaper than one variable a key.
_context: ContextVar[dict[str, Any]] = ContextVar("fulcrum_log_context", default={})  # noqa: B039


@contextmanager
def bound(**keys: Any) -> Iterator[None]:
    """Put ``keys`` on every line logged inside; keys that are None are left out.

    The usual keys are workflow_id, step, message_id, correlation_id and traceparent.
    """
    token = _context.set({**_context.get(), **{k: v for k, v in keys.items() if v is not None}})
    try:
        yield
    finally:
        _context.reset(token)


def configure_logging(settings: Settings, role: str, stream: TextIO | None = None) -> None:
    """Log to ``stream`` (default: standard error) as ``settings.log_format`` says.

    Every line carries ``at`` (UTC), ``level``, ``event``, ``role`` and ``instance``.
    """
    stream = stream or sys.stderr
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]

    def add_process(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {"role": role, "instance": settings.instance, **_context.get(), **event}

    shared: list[Processor] = [
        add_process,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    render = _renderers(settings, stream)
    # Our own lines do not take the way through the standard library, which costs three times as much.
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_library_event, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _renderers(settings: Settings, stream: TextIO) -> list[Processor]:
    if settings.log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    return [
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(),
            pad_event_to=24,
            timestamp_key="at",
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]


def _library_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A library's line: the event is ``library.logged``, its logger and its sentence are facts."""
    record: logging.LogRecord = event["_record"]
    return {**event, "event": "library.logged", "logger": record.name, "message": event["event"]}
