"""The event stream of a workflow: every transition once, in order, from where the client was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from decisions import decision, history
from eventually import eventually_async
from intake import Api, running_intake

from fulcrum.readmodel import store
from fulcrum.saga.messages import DecisionMade
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.web import events, watchers

pytestmark = pytest.mark.asyncio(loop_scope="module")

_WITHIN = 10.0


@dataclass(frozen=True)
class Sent:
    """One event as a client sees it; a comment has its text as data."""

    event: str
    id: int | None
    data: Any


class Stream:
    """A client of one stream."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> Sent | None:
        """The next event, or None at the end."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(_WITHIN):
            async for raw in self.response.content:
                line = raw.decode().rstrip("\n")
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "event" in fields:
                    given = fields.get("id")
                    return Sent(fields["event"], int(given) if given else None, json.loads(fields["data"]))
                elif "" in fields:
                    return Sent("comment", None, fields[""])
                else:
                    fields = {}
        return None

    async def rest(self) -> list[Sent]:
        """Everything until the end."""
        found = []
        while (sent := await self.next()) is not None:
            found.append(sent)
        return found


@asynccontextmanager
async def following(api: Api, workflow_id: str, query: str = "", **headers: str) -> AsyncIterator[Stream]:
    """The open stream of a workflow."""
    url = f"{api.address}/v1/workflows/{workflow_id}/events{query}"
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        yield Stream(response)


async def apply(db: Database, told: list[DecisionMade]) -> None:
    """Bring the read model up to ``told``."""
    async with db.transaction() as tx:
        await store.apply(tx, told)


async def test_a_finished_workflow_is_told_whole_and_ends(api: Api, db: Database) -> None:
    """Each entry is that of the timeline, with its version as id; then the end, and nothing after it."""
    told = history()
    await apply(db, told)
    workflow_id = told[0].workflow_id
    async with following(api, workflow_id) as stream:
        found = await stream.rest()
    timeline = (await api.get(f"/v1/workflows/{workflow_id}")).body["timeline"]
    assert [(sent.event, sent.id) for sent in found[:-1]] == [("transition", n) for n in (1, 2, 3)]
    assert [sent.data for sent in found[:-1]] == timeline
    assert found[-1] == Sent("finished", None, {"status": "completed", "version": 3})


async def test_transitions_arrive_as_they_are_projected(api: Api, db: Database) -> None:
    """A client of an accepted intent sees each transition without asking again."""
    workflow_id = await api.accept()
    told = history(workflow_id)
    async with following(api, workflow_id) as stream:
        for made in told:
            await apply(db, [made])
            sent = await stream.next()
            assert sent is not None
            assert (sent.event, sent.id) == ("transition", made.version)
        assert [sent.event for sent in await stream.rest()] == ["finished"]


@pytest.mark.parametrize("how", ["header", "query"])
async def test_a_client_goes_on_behind_what_it_saw(api: Api, db: Database, how: str) -> None:
    """Nothing is told twice after a lost connection."""
    told = history()
    await apply(db, told)
    query, headers = ("", {"Last-Event-ID": "2"}) if how == "header" else ("?after=2", {})
    async with following(api, told[0].workflow_id, query, **headers) as stream:
        assert [sent.id for sent in await stream.rest()] == [3, None]


async def test_a_client_that_saw_the_end_is_told_to_stop(api: Api, db: Database) -> None:
    """204 is what keeps a browser from coming again."""
    told = history()
    await apply(db, told)
    path = f"/v1/workflows/{told[0].workflow_id}/events"
    seen = await api.send("GET", path, headers={"Last-Event-ID": "3"})
    assert (seen.status, seen.text) == (204, "")


async def test_long_timelines_are_told_whole(api: Api, db: Database) -> None:
    """More entries than are read at once."""
    workflow_id = str(uuid4())
    count = 2 * events._AT_ONCE
    told = [decision(n, status="running", workflow_id=workflow_id) for n in range(1, count)]
    await apply(db, [*told, decision(count, workflow_id=workflow_id)])
    async with following(api, workflow_id) as stream:
        assert [sent.id for sent in await stream.rest()] == [*range(1, count + 1), None]


async def test_silence_is_broken_by_comments(api: Api, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy does not take the stream for dead."""
    monkeypatch.setattr(events, "HEARTBEAT", 0.05)
    workflow_id = await api.accept()
    async with following(api, workflow_id) as stream:
        sent = await stream.next()
        assert sent is not None
        assert sent.event == "comment"


@pytest.mark.parametrize("last", ["-1", "three", "1" * 10])
async def test_an_id_that_was_never_given_is_refused(api: Api, last: str) -> None:
    """The problem names the header."""
    workflow_id = await api.accept()
    seen = await api.send("GET", f"/v1/workflows/{workflow_id}/events", headers={"Last-Event-ID": last})
    assert (seen.status, seen.body["errors"][0]["header"]) == (400, "Last-Event-ID")


async def test_an_unknown_workflow_is_not_found(api: Api) -> None:
    """As for every other answer about it."""
    assert (await api.get(f"/v1/workflows/{uuid4()}/events")).status == 404


async def test_too_many_watchers_are_sent_away(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process does not take more open connections than it bears."""
    monkeypatch.setattr(watchers, "MOST", 1)
    async with running_intake(settings) as own:
        workflow_id = await own.accept()
        async with following(own, workflow_id):
            path = f"/v1/workflows/{workflow_id}/events"

            async def refused() -> bool:
                seen = await own.get(path)
                return seen.status == 503 and seen.body["code"] == "too-many-watchers"

            await eventually_async(refused, within=_WITHIN)


async def test_a_stopping_intake_ends_its_streams(settings: Settings) -> None:
    """An open stream does not hold up the stop, and its client sees an end and no error."""
    async with running_intake(settings) as own:
        workflow_id = await own.accept()
        url = f"{own.address}/v1/workflows/{workflow_id}/events"
        http = aiohttp.ClientSession()
        response = await http.get(url)
        assert await response.content.readline() == b"retry: 1000\n"
    assert (await response.content.read()).strip() == b""
    await http.close()
