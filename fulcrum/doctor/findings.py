"""What did a look at a live system find? One finding a check, counted by cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

_SHOWN = 5


class State(StrEnum):
    """What a finding means to whoever reads it."""

    HOLDS = "holds"
    BROKEN = "broken"  #: what must not be
    ATTENTION = "attention"  #: as designed, but somebody must decide
    SKIPPED = "skipped"  #: too much to look at without loading the system
    UNKNOWN = "unknown"  #: it could not be looked at


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: about what, why (one of few words), and what was seen."""

    subject: str
    cause: str
    detail: str


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. ``invariant`` is its number in the design, ``looked_at`` counts subjects."""

    check: str
    invariant: int
    state: State
    looked_at: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    examples: Sequence[Fault] = ()
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON-ready data."""
        return {
            "check": self.check,
            "invariant": self.invariant,
            "state": str(self.state),
            "looked_at": self.looked_at,
            "count": self.causes.total(),
            "causes": dict(self.causes.most_common()),
            "examples": [
                {"subject": each.subject, "cause": each.cause, "detail": each.detail}
                for each in self.examples
            ],
            "note": self.note,
        }


def found(
    check: str, invariant: int, looked_at: int, faults: Iterable[Fault], bad: State = State.BROKEN
) -> Finding:
    """A finding of what was looked at; ``bad`` is what faults make of it."""
    seen = list(faults)
    causes = Counter(fault.cause for fault in seen)
    return Finding(check, invariant, bad if seen else State.HOLDS, looked_at, causes, seen[:_SHOWN])


def unknown(check: str, invariant: int, error: BaseException) -> Finding:
    """A check that could not be carried out."""
    reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    return Finding(check, invariant, State.UNKNOWN, note=reason)
