"""Does a terminal follow a workflow over lost connections, without a transition twice or left out?"""

from __future__ import annotations

import http.client
import io
import itertools
import time
from collections.abc import Iterator

import pytest

from fulcrum.cli import event_stream
from fulcrum.cli.client import Client
from fulcrum.cli.event_stream import Heard, follow, parsed
from fulcrum.errors import NotFound, Unavailable


def told(version: int) -> str:
    """One transition on the wire."""
    return f'id: {version}\nevent: transition\ndata: {{"version":{version}}}\n\n'


FINISHED = 'event: finished\ndata: {"status":"completed"}\n\n'


class Intake:
    """An API that answers each connection by the next of its answers: a status and what it then says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: tuple[int, str] | OSError) -> None:
        self._answers = iter(answers)
        self.asked: list[str] = []
        self.notes: list[str] = []
        monkeypatch.setattr(Client, "connect", lambda *_: self)
        monkeypatch.setattr(event_stream, "_FIRST_PAUSE", 0.0)

    def request(self, method: str, path: str, body: None, headers: dict[str, str]) -> None:
        self.asked.append(headers["Last-Event-ID"])

    def getresponse(self) -> http.client.HTTPResponse:
        answer = next(self._answers)
        if isinstance(answer, OSError):
            raise answer
        status, text = answer
        head = f"HTTP/1.1 {status} x\r\nConnection: close\r\n\r\n".encode()

        class Socket:
            def makefile(self, mode: str) -> io.BytesIO:
                return io.BytesIO(head + text.encode())

        response = http.client.HTTPResponse(Socket())  # type: ignore[arg-type]
        response.begin()
        return response

    def close(self) -> None:
        """Nothing is open."""

    def follow(self, after: int = 0, deadline: float | None = None) -> Iterator[Heard]:
        return follow(Client("http://intake"), "w", after, deadline, self.notes.append)


def test_parsing_leaves_out_comments_and_pauses() -> None:
    """Only what has data is an event; lines of data belong together."""
    lines = ["retry: 1000", "", ": nothing new", "", "id: 3", "data: [1,", "data: 2]", "", "data: cut"]
    assert list(parsed(iter(lines))) == [Heard("message", "3", [1, 2])]


def test_stream_goes_on_behind_the_last_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a connection that ends and one that fails: each transition once, and each loss is told."""
    intake = Intake(
        monkeypatch, (200, told(1) + told(2)), OSError("refused"), (200, told(3) + FINISHED), (500, "{}")
    )
    heard = list(intake.follow())
    assert [each.id for each in heard] == ["1", "2", "3", ""]
    assert heard[-1].data == {"status": "completed"}
    assert intake.asked == ["0", "2", "2"]
    assert ["ended" in intake.notes[0], "refused" in intake.notes[1]] == [True, True]


def test_event_that_was_cut_off_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an event is none: the id before it is sent back."""
    intake = Intake(monkeypatch, (200, told(1) + told(2)[:-1]), (200, told(2) + FINISHED))
    assert [each.id for each in intake.follow()] == ["1", "2", ""]
    assert intake.asked == ["0", "1"]


def test_workflow_that_ended_before_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """204 is the end and no loss."""
    intake = Intake(monkeypatch, (204, ""))
    assert list(intake.follow(after=7)) == []
    assert (intake.asked, intake.notes) == (["7"], [])


def test_first_connection_must_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An intake that is away, or does not know the workflow, is an error at once."""
    with pytest.raises(Unavailable):
        list(Intake(monkeypatch, OSError("refused")).follow())
    with pytest.raises(NotFound, match="no workflow"):
        list(Intake(monkeypatch, (404, '{"title":"Not found","detail":"no workflow"}')).follow())


def test_deadline_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A workflow that does not end is not waited for longer; what came is told."""
    intake = Intake(monkeypatch, *itertools.repeat((200, told(1)), 3))
    assert [each.id for each in intake.follow(deadline=time.monotonic() - 1)] == ["1"]
