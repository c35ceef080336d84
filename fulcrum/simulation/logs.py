"""Kafka: partitions whose order holds, and readers that resume from the offset they committed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fulcrum.simulation.environment import Environment
from fulcrum.simulation.process import Process

PARTITIONS = 3
_FETCH = 0.01  # seconds, on average, from a record's arrival to its being read
_COMMIT_EVERY = 2.0
_RESUME = 0.5  # seconds, on average, until the first fetch from a partition after a start
_STALL = 120.0  # seconds, on average, that a partition stands still


def partition_of(workflow_id: str) -> int:
    """All that concerns one workflow lies in one partition of each topic."""
    return int(workflow_id[:8], 16) % PARTITIONS


class Log:
    """One partition of one topic."""

    __slots__ = ("_readers", "partition", "records", "topic")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.records: list[Any] = []
        self._readers: list[Callable[[], None]] = []

    def append(self, record: Any) -> None:
        """A record is there for good; its readers will come for it."""
        self.records.append(record)
        for notify in self._readers:
            notify()

    def notify(self, reader: Callable[[], None]) -> None:
        """Call ``reader`` after every append."""
        self._readers.append(reader)


class Place:
    """How far a reader has come in one log: read, finished without a gap, committed.

    ``troubled``: a fault struck since the last commit; one is enough, or a backlog would make itself longer.
    """

    __slots__ = (
        "committed",
        "committing",
        "finished",
        "log",
        "mark",
        "position",
        "stalled_until",
        "troubled",
    )

    def __init__(self, log: Log) -> None:
        self.log = log
        self.position = self.mark = self.committed = 0
        self.finished: set[int] = set()
        self.committing = False
        self.stalled_until = 0.0
        self.troubled = False

    def resume(self) -> None:
        """Only what was committed counts."""
        self.position = self.mark = self.committed
        self.finished.clear()
        self.committing = self.troubled = False


class Reader:
    """Hands each record to ``handle``, in order within a log, in any order across logs.

    An offset is committed once it and all before it are finished; ``committed`` is told of each such record.
    """

    def __init__(
        self,
        env: Environment,
        process: Process,
        logs: Sequence[Log],
        handle: Callable[[Place, int, Any], None],
        committed: Callable[[Any], None],
    ) -> None:
        self._env = env
        self._process = process
        self._handle = handle
        self._committed = committed
        self.places = [Place(log) for log in logs]
        for place in self.places:
            place.log.notify(partial(self._await, place))

    def restart(self) -> None:
        """Read again from the committed offsets."""
        for place in self.places:
            place.resume()
            place.stalled_until = self._env.now + self._env.about(_RESUME)
            self._read_again(place, len(place.log.records) - place.committed)

    def finish(self, place: Place, offset: int) -> None:
        """All that the record caused is safe."""
        if offset < place.mark:
            return
        place.finished.add(offset)
        while place.mark in place.finished:
            place.finished.discard(place.mark)
            place.mark += 1
        if place.mark > place.committed and not place.committing:
            place.committing = True
            self._process.later(self._env.about(_COMMIT_EVERY), self._commit, place)

    def _read_again(self, place: Place, records: int) -> None:
        for _ in range(records):
            self._await(place)

    def _await(self, place: Place) -> None:
        if self._process.up:
            self._process.later(self._env.about(_FETCH), self._take, place)

    def _take(self, place: Place) -> None:
        env = self._env
        if place.position >= len(place.log.records):
            return
        if place.stalled_until > env.now:
            self._process.later(place.stalled_until - env.now, self._take, place)
        elif not place.troubled and env.strikes("delay"):
            place.troubled = True
            place.stalled_until = env.now + env.about(_STALL)
            env.note(None, "kafka", f"{place.log.topic}/{place.log.partition} stands still")
            self._process.later(place.stalled_until - env.now, self._take, place)
        elif env.strikes("drop"):
            self._process.later(env.about(1.0), self._take, place)
        else:
            if not place.troubled and env.strikes("duplicate"):
                place.troubled = True
                behind = place.position - place.committed
                place.position = place.committed
                self._read_again(place, behind)
            offset = place.position
            place.position += 1
            self._handle(place, offset, place.log.records[offset])

    def _commit(self, place: Place) -> None:
        place.committing = place.troubled = False
        if self._process.crashes("before a commit"):
            return
        records = place.log.records[place.committed : place.mark]
        place.committed = place.mark
        for record in records:
            self._committed(record)
        self._process.crashes("after a commit")
