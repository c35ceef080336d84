"""Which partitions are not read on although records wait in them? Seen by looking again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime

from fulcrum.attention.situation import Stall
from fulcrum.saga.messages import EVENT_STREAMS
from fulcrum.settings import Settings
from fulcrum.wire.partitioning import partition_of
from fulcrum.wire.reading import standings
from fulcrum.wire.topics import Topics

#: Where a group stands in a partition: the next offset, and the end.
Standing = tuple[int, int]
_Place = tuple[str, str, int]


class Stalls:
    """Remembers where each group stood at the last look, and since when."""

    def __init__(self) -> None:
        self._seen: dict[_Place, tuple[int, datetime]] = {}
        self._stalled: dict[tuple[str, int], list[Stall]] = {}
        self._partitions: dict[str, int] = {}

    def note(self, now: datetime, stands: Mapping[str, Mapping[tuple[str, int], Standing]]) -> None:
        """Take in where each group stands now: by group, by topic and partition."""
        self._stalled, seen = {}, {}
        for group, places in stands.items():
            for (topic, partition), (offset, end) in places.items():
                self._partitions[topic] = max(self._partitions.get(topic, 0), partition + 1)
                if end <= offset:
                    continue
                place = (group, topic, partition)
                before = self._seen.get(place)
                since = before[1] if before is not None and before[0] == offset else now
                seen[place] = (offset, since)
                stall = Stall(group, topic, partition, end - offset, since)
                self._stalled.setdefault((topic, partition), []).append(stall)
        self._seen = seen

    def of(self, workflow_id: str) -> tuple[Stall, ...]:
        """The partitions of the workflow that wait, each since it was first seen to."""
        if not self._stalled:
            return ()
        key = workflow_id.encode()
        return tuple(
            stall
            for topic, partitions in self._partitions.items()
            for stall in self._stalled.get((topic, partition_of(key, partitions)), ())
        )


async def look(settings: Settings) -> dict[str, dict[tuple[str, int], Standing]]:
    """Where the orchestrator and the projector stand. Unavailable when Kafka does not answer."""
    topics = Topics(settings.namespace)
    decisions = topics.stream("decisions")
    reads = {
        f"{settings.namespace}-orchestrator": [*map(topics.stream, EVENT_STREAMS), decisions],
        f"{settings.namespace}-projector": [decisions],
    }
    return {group: await asyncio.to_thread(standings, settings, group, read) for group, read in reads.items()}
