"""What do the counts of an operation say: may it go on? Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

PENDING, SUCCEEDED, FAILED, SKIPPED = "pending", "succeeded", "failed", "skipped"
ITEM_STATES = (PENDING, SUCCEEDED, FAILED, SKIPPED)
STATES = ("pending", "running", "paused", "stopped", "done", "aborted")
#: An operation in one of these never moves again.
ENDED = ("done", "aborted")
#: A ratio says nothing about the first few.
JUDGED_LEAST = 5


@dataclass(frozen=True, slots=True)
class Counts:
    """How many items of an operation are in each state; they always add up to ``total``."""

    pending: int = 0
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def total(self) -> int:
        """All items."""
        return self.pending + self.succeeded + self.failed + self.skipped

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Counts:
        """The counts in a row of the operations."""
        return cls(**{state: row[state] for state in ITEM_STATES})

    def moved(self, before: str, after: str, items: int = 1) -> Counts:
        """After ``items`` went from one state to another. ValueError when there are not so many."""
        if getattr(self, before) < items:
            raise ValueError(f"{getattr(self, before)} items are {before}; {items} cannot become {after}")
        left = replace(self, **{before: getattr(self, before) - items})
        return replace(left, **{after: getattr(left, after) + items})


def over_ratio(counts: Counts, ratio: float | None) -> bool:
    """Whether more than ``ratio`` of what was judged has failed; False while too few are judged."""
    judged = counts.succeeded + counts.failed
    if ratio is None or judged < min(JUDGED_LEAST, counts.total):
        return False
    return counts.failed > ratio * judged


class Gate(enum.Enum):
    """What the canaries say about the rest."""

    OPEN = "open"
    WAIT = "wait"
    STOP = "stop"
    ASK = "ask"


def canary_gate(failed: int, unseen: int, unseeable: int, *, over: bool) -> Gate:
    """May the rest follow its canaries?

    ``failed`` of them failed or parked again. ``unseen`` have no outcome yet, and ``unseeable`` can only show
    one by parking again. When the time is ``over``, silence of the first is a question to a person, and
    silence of the second is all the good news there can be.
    """
    if failed:
        return Gate.STOP
    if unseen:
        return Gate.ASK if over else Gate.WAIT
    return Gate.WAIT if unseeable and not over else Gate.OPEN
