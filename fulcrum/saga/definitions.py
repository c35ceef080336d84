"""The workflows: each a table of steps. Adding a step is adding a row.

A run pins its definition when it starts and finishes under it, so a published row never changes:
another behaviour is another version.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from fulcrum.saga.messages import (
    Answer,
    AuthorizePayment,
    ConfirmStock,
    HoldStock,
    PaymentAuthorized,
    PaymentDeclined,
    PaymentNotFound,
    PaymentVoided,
    QueryPayment,
    ReleaseStock,
    ReserveStock,
    StepCommand,
    StockConfirmed,
    StockExpired,
    StockNotConfirmed,
    StockRejected,
    StockReleased,
    StockReserved,
    VoidPayment,
)


class Kind(StrEnum):
    """What may be done about a step that fails."""

    COMPENSATABLE = "compensatable"  # has an undo: earlier steps are undone in reverse order
    PIVOT = "pivot"  # the point of no return: before it roll back, after it roll forward
    RETRIABLE = "retriable"  # after the pivot: repeated until it succeeds


#: Waiting longer than this for an answer would only hide that none comes.
LONGEST_WAIT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Step:
    """One row: what to send, what answers it, and how to undo it.

    ``deadline`` is how long an answer may take before the step counts as late. What became of a late step is
    asked with ``query``; where there is none, or ``not_found`` is the answer, its command is sent again. Each
    wait is twice as long as the one before, up to ``LONGEST_WAIT``. After ``patience`` deadlines in a row the
    step counts as failed. ``lapsed`` says that what the step held is gone. A step that ``keeps`` another one
    by name makes that one's hold last; it has no undo, for undoing the other one undoes it.
    """

    name: str
    do: type[StepCommand]
    done: type[Answer]
    refused: type[Answer]
    undo: type[StepCommand] | None
    undone: type[Answer] | None
    deadline: timedelta
    kind: Kind = Kind.COMPENSATABLE
    query: type[StepCommand] | None = None
    not_found: type[Answer] | None = None
    patience: int = 10
    lapsed: type[Answer] | None = None
    keeps: str | None = None

    def wait(self, late: int) -> timedelta:
        """How long the next answer may take after ``late`` deadlines have passed."""
        longer: timedelta = self.deadline * (1 << late)
        return min(longer, max(self.deadline, LONGEST_WAIT))


@dataclass(frozen=True, slots=True)
class Definition:
    """A named and versioned list of steps, carried out in order."""

    name: str
    steps: tuple[Step, ...]

    def step(self, name: str) -> Step:
        """The row called ``name``; KeyError when there is none."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)


AUTHORIZE_PAYMENT = Step(
    "authorize_payment",
    do=AuthorizePayment,
    done=PaymentAuthorized,
    refused=PaymentDeclined,
    undo=VoidPayment,
    undone=PaymentVoided,
    deadline=timedelta(seconds=60),
    query=QueryPayment,
    not_found=PaymentNotFound,
)
RESERVE_STOCK = Step(
    "reserve_stock",
    do=ReserveStock,
    done=StockReserved,
    refused=StockRejected,
    undo=ReleaseStock,
    undone=StockReleased,
    deadline=timedelta(seconds=30),
)

HOLD_STOCK = Step(
    "reserve_stock",
    do=HoldStock,
    done=StockReserved,
    refused=StockRejected,
    undo=ReleaseStock,
    undone=StockReleased,
    deadline=timedelta(seconds=30),
    lapsed=StockExpired,
)
CONFIRM_STOCK = Step(
    "confirm_stock",
    do=ConfirmStock,
    done=StockConfirmed,
    refused=StockNotConfirmed,
    undo=None,
    undone=None,
    deadline=timedelta(seconds=30),
    keeps="reserve_stock",
)

DEFINITIONS: dict[str, Definition] = {
    definition.name: definition
    for definition in (
        Definition("fulfillment.v1", (AUTHORIZE_PAYMENT, RESERVE_STOCK)),
        Definition("reserve_first.v1", (RESERVE_STOCK, AUTHORIZE_PAYMENT)),
        Definition("reserve_first.v2", (HOLD_STOCK, AUTHORIZE_PAYMENT, CONFIRM_STOCK)),
    )
}
DEFAULT_DEFINITION = "fulfillment.v1"
