"""What do all parts of a simulated world share? Its time, its chance, and the record of what happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from random import Random
from typing import Any

from fulcrum.simulation.faults import Faults

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Happened:
    """One line of the schedule; ``workflow_id`` None when it concerns all."""

    at: float
    workflow_id: str | None
    who: str
    what: str

    def __str__(self) -> str:
        return f"{self.at:12.3f}s  {self.who:<12}  {self.what}"


class Environment:
    """Virtual seconds pass only from one planned action to the next. All chance comes from one seed."""

    def __init__(self, seed: int, faults: Faults) -> None:
        # Not for secrets: the same seed must give the same run.
        self.random = Random(seed)  # noqa: S311
        self.now = 0.0
        self.steps = 0
        self.counts: Counter[str] = Counter()
        self.schedule: list[Happened] = []
        self._rates = dict(faults.rates)
        self._planned: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0

    # --- time ---------------------------------------------------------------------------------

    def after(self, delay: float, action: Callable[..., None], *args: Any) -> None:
        """Plan ``action`` for ``delay`` seconds from now; what is planned for one moment keeps its order."""
        self._number += 1
        heappush(self._planned, (self.now + delay, self._number, action, args))

    def run(self, most: int) -> bool:
        """Do what is planned until nothing is left; False when that took more than ``most`` steps."""
        planned = self._planned
        while planned:
            if self.steps >= most:
                return False
            self.steps += 1
            self.now, _, action, args = heappop(planned)
            action(*args)
        return True

    def moment(self, ahead: float = 0.0) -> datetime:
        """Now, by a clock that is ``ahead`` seconds ahead."""
        return START + timedelta(seconds=self.now + ahead)

    # --- chance -------------------------------------------------------------------------------

    def strikes(self, fault: str) -> bool:
        """Whether ``fault`` happens here and now."""
        rate = self._rates.get(fault)
        if not rate or self.random.random() >= rate:
            return False
        self.counts[f"fault.{fault}"] += 1
        return True

    def about(self, mean: float) -> float:
        """A waiting time: ``mean`` seconds on average, mostly less, sometimes much more."""
        return self.random.expovariate(1.0) * mean

    def calm(self) -> None:
        """From now on no fault happens."""
        self._rates.clear()
        self.note(None, "world", "faults stop")

    # --- record -------------------------------------------------------------------------------

    def note(self, workflow_id: str | None, who: str, what: str) -> None:
        """Write a line of the schedule."""
        self.schedule.append(Happened(self.now, workflow_id, who, what))
