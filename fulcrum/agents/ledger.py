"""Up to which offset may be committed? The lowest one that is not finished, partition by partition.

Pure bookkeeping: events are *delivered* in offset order and *finished* in any order (their records
are acknowledged by the broker at different times). Only what lies below the lowest unfinished event
may be committed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

TP = TypeVar("TP", bound=Hashable)


class _Partition:
    """Delivered and not yet committable offsets of one partition, in order."""

    __slots__ = ("committable", "committed", "finished", "open")

    def __init__(self, position: int | None) -> None:
        self.open: deque[int] = deque()
        self.finished: set[int] = set()
        self.committed = position
        self.committable = position


class OffsetLedger(Generic[TP]):
    """Delivered, finished and committed offsets of the partitions assigned to this process."""

    def __init__(self) -> None:
        self._partitions: dict[TP, _Partition] = {}

    def reset(self, tp: TP, position: int | None) -> None:
        """Reading starts again at ``position``: forget what was delivered before."""
        self._partitions[tp] = _Partition(position)

    def forget(self, tp: TP) -> None:
        """The partition belongs to somebody else now."""
        self._partitions.pop(tp, None)

    def delivered(self, tp: TP, offset: int) -> None:
        """``offset`` was handed to an agent."""
        partition = self._partitions.get(tp)
        if partition is None:
            partition = self._partitions[tp] = _Partition(None)
        partition.open.append(offset)

    def finished(self, tp: TP, offset: int) -> None:
        """Everything that ``offset`` caused is safe. Unknown offsets are those of an earlier assignment."""
        partition = self._partitions.get(tp)
        if partition is None or not partition.open or offset < partition.open[0]:
            return
        partition.finished.add(offset)
        while partition.open and partition.open[0] in partition.finished:
            head = partition.open.popleft()
            partition.finished.discard(head)
            partition.committable = head + 1

    def committable(self, tp: TP) -> int | None:
        """The offset to commit (the next one to read), or None when nothing is new."""
        partition = self._partitions.get(tp)
        if partition is None or partition.committable == partition.committed:
            return None
        return partition.committable

    def committed(self, tp: TP, offset: int) -> None:
        """The broker has stored ``offset``."""
        partition = self._partitions.get(tp)
        if partition is not None:
            partition.committed = offset

    def finished_below(self, tp: TP, offset: int) -> bool:
        """Whether no event below ``offset`` that was delivered is still open."""
        partition = self._partitions.get(tp)
        return partition is None or not partition.open or partition.open[0] >= offset

    def unfinished(self) -> int:
        """How many delivered events are not finished."""
        return sum(len(p.open) - len(p.finished) for p in self._partitions.values())

    def __iter__(self) -> Iterator[TP]:
        return iter(list(self._partitions))
