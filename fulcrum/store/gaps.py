"""Which ids has a relay passed over although a row may still appear under them? Pure.

Ids are given out when a row is inserted and seen when it is committed, in another order. A gap is a range of
ids below the highest one seen that have not been seen themselves: their transactions are under way, or were
rolled back. It stays open until every transaction that wrote to the outbox when the gap was looked at has
ended; what is not there then never will be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Gap:
    """The ids ``low`` to ``high``. ``writers`` are those that may hold one of them; None: not looked yet."""

    low: int
    high: int
    writers: frozenset[str] | None = field(default=None)

    @property
    def settled(self) -> bool:
        """Whether nobody can commit a row here any more: one more look tells what there is."""
        return self.writers is not None and not self.writers

    def without(self, taken: int) -> Iterator[Gap]:
        """What remains of the gap when ``taken``, one of its ids, was seen."""
        if self.low < taken:
            yield Gap(self.low, taken - 1, self.writers)
        if taken < self.high:
            yield Gap(taken + 1, self.high, self.writers)


class Gaps:
    """The open gaps below ``last``, the highest id seen, in ascending order."""

    def __init__(self) -> None:
        self.last = 0
        self._open: list[Gap] = []

    def __bool__(self) -> bool:
        return bool(self._open)

    def __contains__(self, row_id: int) -> bool:
        return any(gap.low <= row_id <= gap.high for gap in self._open)

    @property
    def unsettled(self) -> bool:
        """Whether it is worth asking who is writing."""
        return any(not gap.settled for gap in self._open)

    def ranges(self) -> tuple[Sequence[int], Sequence[int]]:
        """The lowest and the highest id of each gap."""
        return [gap.low for gap in self._open], [gap.high for gap in self._open]

    def passed(self, ids: Iterable[int]) -> None:
        """Rows above ``last`` were seen, ascending; what lies between them is a gap."""
        for row_id in ids:
            if row_id > self.last + 1:
                self._open.append(Gap(self.last + 1, row_id - 1))
            self.last = row_id

    def filled(self, ids: Collection[int]) -> None:
        """Rows inside gaps were seen."""
        for row_id in ids:
            self._open = [
                rest
                for gap in self._open
                for rest in (gap.without(row_id) if gap.low <= row_id <= gap.high else (gap,))
            ]

    def looked(self, writers: frozenset[str]) -> None:
        """These transactions write to the outbox now. One that is not among them holds no id of a gap."""
        for gap in self._open:
            gap.writers = writers if gap.writers is None else gap.writers & writers

    def close_settled(self) -> None:
        """Forget the gaps that were settled before all of them were read once more."""
        self._open = [gap for gap in self._open if not gap.settled]
