"""Which key is due first? Pure: keys with one time each, and what is due at a given moment."""

from __future__ import annotations

import heapq
from datetime import datetime

#: Superseded entries that are tolerated before the heap is built anew, beyond as many as there are keys.
_SLACK = 1000


class Agenda:
    """One due time per key; setting it again replaces it."""

    def __init__(self) -> None:
        self._due: dict[bytes, datetime] = {}
        self._heap: list[tuple[datetime, bytes]] = []

    def set(self, key: bytes, due: datetime | None) -> None:
        """``key`` is due at ``due``, or never when that is None."""
        if due is None:
            self._due.pop(key, None)
        elif self._due.get(key) != due:
            self._due[key] = due
            heapq.heappush(self._heap, (due, key))
        if len(self._heap) > 2 * len(self._due) + _SLACK:
            self._heap = [(due, key) for key, due in self._due.items()]
            heapq.heapify(self._heap)

    def take(self, now: datetime, most: int) -> list[bytes]:
        """At most ``most`` keys that are due, the longest overdue first; they leave the agenda."""
        taken: list[bytes] = []
        while self._heap and self._heap[0][0] <= now and len(taken) < most:
            due, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                taken.append(key)
        return taken

    def clear(self) -> None:
        """Nothing is due any more."""
        self._due.clear()
        self._heap.clear()

    def __len__(self) -> int:
        return len(self._due)
