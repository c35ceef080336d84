"""How does a terminal follow a workflow, over restarts of intake and lost connections?

By server-sent events: each has the version of its transition as id, and who comes again with the last id gets
what came after it, no transition twice and none left out.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fulcrum.cli.client import Client, refusal, segment
from fulcrum.errors import FulcrumError, Unavailable

#: The server sends a comment at least every 15 s.
_SILENT_TOO_LONG = 40.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


@dataclass(frozen=True, slots=True)
class Heard:
    """One event of the stream: its name, its id (empty: none), and its data."""

    event: str
    id: str
    data: Any


@dataclass
class _Place:
    """Where a stream stands over its connections. ``ended``: nothing will come any more."""

    last: int
    opened: bool = False
    ended: bool = False


def follow(
    client: Client, workflow_id: str, after: int, deadline: float | None, told: Callable[[str], None]
) -> Iterator[Heard]:
    """Every transition behind version ``after``, then ``finished``; or until ``deadline`` (monotonic).

    The first connection must succeed: Unavailable, NotFound and so on otherwise. When it is lost later,
    ``told`` hears of it and it is tried again until it succeeds.
    """
    place, pause = _Place(after), _FIRST_PAUSE
    while True:
        before = place.last
        try:
            yield from _connection(client, workflow_id, place, deadline)
            why = "intake ended it"
        except Unavailable as error:
            if not place.opened:
                raise
            why = str(error)
        pause = _FIRST_PAUSE if place.last > before else pause
        if place.ended or (deadline is not None and time.monotonic() + pause >= deadline):
            return
        told(f"the stream is lost ({why}); again in {pause:g} s")
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def _connection(client: Client, workflow_id: str, place: _Place, deadline: float | None) -> Iterator[Heard]:
    """What one connection tells; ``place`` is kept up to date."""
    connection = client.connect(_patience(deadline))
    path = f"{client.prefix}/v1/workflows/{segment(workflow_id)}/events"
    try:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(place.last)}
        connection.request("GET", path, None, headers)
        response = connection.getresponse()
        if response.status == 204:
            place.ended = True
            return
        if response.status != 200:
            raise _refused(response.status, response.read())
        place.opened = True
        for heard in parsed(_lines(response)):
            if heard.id.isdecimal():
                place.last = int(heard.id)
            place.ended = heard.event == "finished"
            yield heard
            if place.ended:
                return
    except (OSError, http.client.HTTPException) as error:
        raise client.away(error) from error
    finally:
        connection.close()


def _patience(deadline: float | None) -> float:
    left = _SILENT_TOO_LONG if deadline is None else deadline - time.monotonic()
    return max(0.05, min(_SILENT_TOO_LONG, left))


def _lines(response: http.client.HTTPResponse) -> Iterator[str]:
    while line := response.readline():
        yield line.decode(errors="replace").rstrip("\r\n")


def parsed(lines: Iterator[str]) -> Iterator[Heard]:
    """Events out of the lines of a stream; comments and pauses (``retry``) are left out."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields['data']}\n{value}" if name == "data" and "data" in fields else value
        else:
            if "data" in fields:
                yield Heard(fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"]))
            fields = {}


def _refused(status: int, content: bytes) -> FulcrumError:
    try:
        return refusal(status, json.loads(content))
    except ValueError:
        return Unavailable(f"This is no answer of Fulcrum's API: status {status}, {content[:80]!r}")
