"""Does a broker that remembers read what a broker that is told everything would read?"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v6, FetchRequest_v11
from hypothesis import given
from hypothesis import strategies as st

from fulcrum.agents.fetching import FetchSessions

_NOT_FOUND, _BAD_EPOCH = 70, 71
_MOST = 1000
Wishes = dict[tuple[str, int], int]

places = st.tuples(st.sampled_from(["intents", "payments"]), st.integers(0, 2))
wishes = st.dictionaries(places, st.integers(0, 2), max_size=6)
faults = st.sampled_from(["", "", "", "fails", "gone", "cancelled", "refuses sessions"])


class Answer:
    """A response, as far as sessions go."""

    API_VERSION = 11

    def __init__(self, session_id: int, error_code: int = 0) -> None:
        self.session_id, self.error_code = session_id, error_code


class Broker:
    """Keeps sessions as KIP-227 says, and which offsets the last fetch read."""

    def __init__(self, struct: Any = FetchRequest_v11) -> None:
        self.struct = struct
        self.fault = ""
        self.named = 0
        self.read: Wishes | None = None
        self._sessions: dict[int, tuple[int, Wishes]] = {}
        self._made = 0

    async def send(self, node_id: int, request: Any) -> Any:
        """One fetch."""
        asked = request.build(self.struct)
        if self.fault == "fails":
            raise ConnectionError("the connection was lost")
        named = {
            (topic, partition[0]): partition[2]
            for topic, partitions in asked.topics
            for partition in partitions
        }
        self.named, self.read = len(named), None
        if self.fault == "gone":
            self._sessions.clear()
        if asked.session_epoch == 0:
            self._sessions.pop(asked.session_id, None)
            self.read = named
            if self.fault == "refuses sessions":
                return Answer(0)
            self._made += 1
            self._sessions[self._made] = (1, named)
            answer = Answer(self._made)
        elif asked.session_id not in self._sessions:
            return Answer(0, _NOT_FOUND)
        else:
            epoch, known = self._sessions[asked.session_id]
            if epoch != asked.session_epoch:
                return Answer(0, _BAD_EPOCH)
            gone = {(topic, number) for topic, numbers in asked.forgotten_topics_data for number in numbers}
            self.read = {**{place: at for place, at in known.items() if place not in gone}, **named}
            self._sessions[asked.session_id] = (epoch + 1, self.read)
            answer = Answer(asked.session_id)
        if self.fault == "cancelled":
            raise asyncio.CancelledError
        return answer


def whole(wished: Wishes) -> FetchRequest:
    """A fetch as aiokafka makes it."""
    topics: dict[str, list[tuple[int, int, int]]] = {}
    for (topic, partition), offset in wished.items():
        topics.setdefault(topic, []).append((partition, offset, _MOST))
    return FetchRequest(200, 1, 2**20, 0, list(topics.items()))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fulcrum.agents.fetching._BACKOFF", 0)


@given(st.lists(st.tuples(wishes, faults), max_size=12))
def test_every_fetch_reads_what_it_asks_for(fetches: list[tuple[Wishes, str]]) -> None:
    """Whatever was lost before: what the broker reads is what was asked for, or it says that it cannot."""

    async def run() -> None:
        broker = Broker()
        send = FetchSessions(broker.send)
        lost = False
        for wished, broker.fault in fetches:
            try:
                answer = await send(1, whole(wished))
            except (ConnectionError, asyncio.CancelledError):
                lost = True
                continue
            if answer.error_code:
                assert broker.fault == "gone"
                lost = True
                continue
            assert broker.read == wished, f"after a loss: {lost}"

    asyncio.run(run())


async def test_only_what_changed_is_named() -> None:
    """The second fetch of six partitions names the one that was read from."""
    broker = Broker()
    send = FetchSessions(broker.send)
    wished = {(topic, number): 0 for topic in ("intents", "payments") for number in range(3)}

    await send(1, whole(wished))
    assert broker.named == len(wished)
    await send(1, whole({**wished, ("payments", 2): 7}))
    assert broker.named == 1


async def test_a_lost_session_begins_anew_and_each_broker_has_its_own() -> None:
    """The first fetch after a refusal names everything again."""
    here, there = Broker(), Broker()
    nodes = {1: here, 2: there}

    async def send(node_id: int, request: Any) -> Any:
        return await nodes[node_id].send(node_id, request)

    sessions = FetchSessions(send)
    wished = {("intents", 0): 0, ("intents", 1): 0}
    for node_id in (1, 2):
        await sessions(node_id, whole(wished))
    here.fault = "gone"
    assert (await sessions(1, whole(wished))).error_code == _NOT_FOUND
    here.fault = ""
    await sessions(1, whole(wished))
    await sessions(2, whole(wished))

    assert (here.named, there.named) == (2, 0)


def test_a_broker_without_sessions_is_told_everything() -> None:
    """Its protocol has no place for them."""
    seen: list[Any] = []

    async def send(node_id: int, request: Any) -> Any:
        seen.append(request.build(FetchRequest_v6))
        answer = Answer(0)
        answer.API_VERSION = 6  # type: ignore[misc]
        return answer

    sessions = FetchSessions(send)
    for _ in range(2):
        asyncio.run(sessions(1, whole({("intents", 0): 5})))

    assert [request.topics for request in seen] == [[("intents", [(0, 5, -1, _MOST)])]] * 2


async def test_other_requests_pass() -> None:
    """Sessions are of fetches alone."""
    sent: list[Any] = []

    async def send(node_id: int, request: Any, *, group: int) -> str:
        sent.append((node_id, request, group))
        return "answer"

    assert await FetchSessions(send)(3, "a heartbeat", group=1) == "answer"
    assert sent == [(3, "a heartbeat", 1)]
