"""How the terminal program talks to the API, and how it prints what it gets."""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote, urlencode, urlsplit

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fulcrum.errors import Conflict, Forbidden, FulcrumError, NotFound, Rejected, Unavailable

DEFAULT_API = "http://127.0.0.1:8080"
_TIMEOUT = 10.0
_BY_STATUS: Mapping[int, type[FulcrumError]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


class Output(StrEnum):
    """Forms of output."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="For people or for programs.")]


@dataclass(frozen=True, slots=True)
class Reply:
    """A success of the API."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Client:
    """The API at ``FULCRUM_API``. Failures are raised as the errors that set the exit code."""

    def __init__(self, address: str | None = None) -> None:
        self.address = (address or os.environ.get("FULCRUM_API") or DEFAULT_API).rstrip("/")
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Rejected(f"FULCRUM_API={self.address!r} is no address; give one such as {DEFAULT_API}")
        self._parts = parts

    def get(self, path: str, **query: object) -> Any:
        """The body of GET ``path``; query parameters that are None are left out."""
        given = {name: str(value) for name, value in query.items() if value is not None}
        return self._request("GET", f"{path}?{urlencode(given)}" if given else path).body

    def post(self, path: str, body: object, key: str | None = None, actor: str | None = None) -> Reply:
        """POST ``body`` as JSON, under ``key`` as the Idempotency-Key, in the name of ``actor``."""
        given = {"Idempotency-Key": key, "X-Actor": actor}
        headers = {name: value for name, value in given.items() if value}
        return self._request("POST", path, json.dumps(body), headers)

    def _request(
        self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        return _reply(*self.exchange(method, path, body, headers))

    def exchange(
        self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of the answer, whatever it is; Unavailable when there is none."""
        connection = self.connect(_TIMEOUT)
        sent = {"Accept": "application/json", **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        try:
            connection.request(method, self.prefix + path, body, sent)
            response = connection.getresponse()
            return response.status, response.read(), dict(response.getheaders())
        except (OSError, http.client.HTTPException) as error:
            raise self.away(error) from error
        finally:
            connection.close()

    @property
    def prefix(self) -> str:
        """The path that the address begins with; often empty."""
        return self._parts.path

    def connect(self, timeout: float) -> http.client.HTTPConnection:
        """A connection to the API, not opened yet; ``timeout`` in seconds is for each of its waits."""
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        return kind(str(self._parts.hostname), self._parts.port, timeout=timeout)

    def away(self, error: Exception) -> Unavailable:
        """What to raise when the API does not answer."""
        return Unavailable(
            f"The API at {self.address} does not answer ({error}); is `fulcrum run intake` running? "
            "FULCRUM_API names another address."
        )


def _reply(status: int, text: bytes, headers: Mapping[str, str]) -> Reply:
    try:
        body = json.loads(text)
    except ValueError:
        raise Unavailable(f"This is no answer of Fulcrum's API: status {status}, {text[:80]!r}") from None
    if status < 400:
        return Reply(status, body, headers)
    raise refusal(status, body)


def refusal(status: int, problem: Mapping[str, Any]) -> FulcrumError:
    """The error that stands for a problem of the API."""
    return _BY_STATUS.get(status, Rejected)(_told(problem))


def _told(problem: Mapping[str, Any]) -> str:
    """A problem as lines for a terminal."""
    faults = problem.get("errors", [])
    lines = [f"{problem.get('title', 'refused')}: {problem.get('detail', '')}"]
    if len(faults) > 1:
        lines = [f"{problem['title']}:", *(f"  {fault['detail']}" for fault in faults)]
    if correlation_id := problem.get("correlation_id"):
        lines.append(f"  correlation id {correlation_id}")
    return "\n".join(lines)


def segment(text: str) -> str:
    """``text`` as one segment of a path."""
    return quote(text, safe="")


def show_json(value: object) -> None:
    """Print ``value`` as indented JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def show_line(value: object) -> None:
    """Print ``value`` as one line of JSON."""
    typer.echo(json.dumps(value, separators=(",", ":"), ensure_ascii=False))


def show_document(value: Mapping[str, Any], output: Output) -> None:
    """Print one thing; a table has each of its fields on a line."""
    if output is Output.TABLE:
        show_fields(value)
    elif output is Output.JSON:
        show_json(value)
    else:
        show_line(value)


def show_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], output: Output) -> None:
    """Print ``rows``; a table has ``columns``: heading by field."""
    if output is Output.JSON:
        show_json(list(rows))
    elif output is Output.NDJSON:
        for row in rows:
            show_line(row)
    else:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name, heading in columns.items():
            # An id that is cut is no use.
            table.add_column(heading, no_wrap=name.endswith("id"), overflow="fold")
        for row in rows:
            # Text, because a value in brackets is no markup.
            table.add_row(*(Text(_cell(name, row.get(name))) for name in columns))
        console().print(table)


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    return clock(str(value)) if name.endswith("_at") or name == "since" else str(value)


def clock(moment: str) -> str:
    """A time of the API for people: to the millisecond, in UTC."""
    return f"{moment[:10]} {moment[11:23].rstrip('Z')}Z"


def console() -> Console:
    """Standard output, with room for whole ids when it is no terminal."""
    return Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=200)


def show_fields(value: Mapping[str, Any]) -> None:
    """Print each field of ``value`` on lines of its own."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, part in value.items():
        shown = json.dumps(part, indent=2, ensure_ascii=False) if isinstance(part, dict | list) else part
        table.add_row(name, Text("" if shown is None else str(shown), overflow="fold"))
    console().print(table)


def note(text: str) -> None:
    """Say something that is no output, on stderr."""
    typer.echo(text, err=True)
