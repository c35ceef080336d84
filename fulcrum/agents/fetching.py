"""How is Kafka asked for records: for everything each time, or for what has changed since the last time?

aiokafka names every partition in every fetch, and Kafka then tells of every one, also when only one has news.
A consumer of all streams has dozens, so most of what a fetch cost, on both sides, was to say that nothing had
happened. With a fetch session (KIP-227) the broker remembers what it was asked for: a fetch names the
partitions that are to be read from elsewhere than before, and its answer those that have news.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka.protocol.fetch import FetchRequest

log = structlog.get_logger()

#: The first version that knows sessions.
_SESSIONS_SINCE = 7
#: The epoch that asks for a new session, and the one after the last.
_FIRST_EPOCH, _LAST_EPOCH = 0, 2**31 - 1
#: Seconds before a fetch is repeated that the broker refused as a whole.
_BACKOFF = 0.05

#: A topic and a partition of it.
_Place = tuple[str, int]
#: Where to read a partition from, and how many bytes at most.
_Wish = tuple[int, int]


@dataclass(slots=True)
class _Session:
    """What a broker remembers of our last fetch."""

    id: int = 0
    epoch: int = _FIRST_EPOCH
    wishes: Mapping[_Place, _Wish] = field(default_factory=dict)


class SessionFetch(FetchRequest):  # type: ignore[misc]  # aiokafka's types are not ours
    """A fetch within a session. ``topics`` is still everything that it asks for."""

    def __init__(self, whole: FetchRequest, session: _Session) -> None:
        super().__init__(*_parts(whole, whole.topics))
        self._session = session
        self.wishes: dict[_Place, _Wish] = {
            (topic, partition): (offset, most)
            for topic, partitions in whole.topics
            for partition, offset, most in partitions
        }

    def build(self, request_struct_class: Any) -> Any:
        """The request on the wire: the whole of it to a broker that knows no sessions."""
        if request_struct_class.API_VERSION < _SESSIONS_SINCE:
            return super().build(request_struct_class)
        known = self._session.wishes
        changed: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for (topic, partition), wish in self.wishes.items():
            if known.get((topic, partition)) != wish:
                changed[topic].append((partition, *wish))
        forgotten: dict[str, list[int]] = defaultdict(list)
        for topic, partition in known.keys() - self.wishes.keys():
            forgotten[topic].append(partition)
        built = FetchRequest(*_parts(self, list(changed.items()))).build(request_struct_class)
        built.session_id, built.session_epoch = self._session.id, self._session.epoch
        built.forgotten_topics_data = list(forgotten.items())
        return built


class FetchSessions:
    """Sends what an aiokafka client sends, and fetches within one session a broker.

    A fetch that failed, or that nobody waited for to its end, ends the session: what the broker remembers is
    not known then.
    """

    def __init__(self, send: Callable[..., Awaitable[Any]]) -> None:
        self._send = send
        self._sessions: dict[int, _Session] = {}

    async def __call__(self, node_id: int, request: Any, **options: Any) -> Any:
        """The broker's response to ``request``."""
        if type(request) is not FetchRequest:
            return await self._send(node_id, request, **options)
        session = self._sessions.pop(node_id, None) or _Session()
        fetch = SessionFetch(request, session)
        response = await self._send(node_id, fetch, **options)
        if response.API_VERSION < _SESSIONS_SINCE:
            return response
        if response.error_code:
            log.info("fetch.session_lost", node=node_id, code=response.error_code)
            await asyncio.sleep(_BACKOFF)
        elif response.session_id and session.epoch < _LAST_EPOCH:
            self._sessions[node_id] = _Session(response.session_id, session.epoch + 1, fetch.wishes)
        return response


def _parts(fetch: FetchRequest, topics: Any) -> tuple[Any, ...]:
    """What a fetch like this one for ``topics`` is made from."""
    return (
        fetch._max_wait_ms,
        fetch._min_bytes,
        fetch._max_bytes,
        fetch._isolation_level,
        topics,
        fetch._rack_id,
    )
