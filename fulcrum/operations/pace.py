"""When may the next message leave, at so many a second? Pure but for the clock that it is given."""

from __future__ import annotations

from collections.abc import Callable


class Pace:
    """Spaces messages evenly. After a pause there is no burst to make up for it."""

    def __init__(self, rate: float | None, clock: Callable[[], float]) -> None:
        self._gap = 1 / rate if rate else 0.0
        self._clock = clock
        self._next = clock()

    def left(self) -> float:
        """Seconds until the next may leave; 0 when it may now."""
        return max(0.0, self._next - self._clock())

    def went(self) -> None:
        """One has left."""
        self._next = max(self._next, self._clock()) + self._gap
