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
    PaymentAuthorized,
    PaymentDeclined,
    PaymentVoided,
    ReleaseStock,
    ReserveStock,
    StepCommand,
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


@dataclass(frozen=True, slots=True)
class Step:
    """One row: what to send, what answers it, and how to undo it.

    ``deadline`` is how long an answer may take before the step counts as late.
    """

    name: str
    do: type[StepCommand]
    done: type[Answer]
    refused: type[Answer]
    undo: type[StepCommand] | None
    undone: type[Answer] | None
    deadline: timedelta
    kind: Kind = Kind.COMPENSATABLE


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

DEFINITIONS: dict[str, Definition] = {
    definition.name: definition
    for definition in (
        Definition("fulfillment.v1", (AUTHORIZE_PAYMENT, RESERVE_STOCK)),
        Definition("reserve_first.v1", (RESERVE_STOCK, AUTHORIZE_PAYMENT)),
    )
}
DEFAULT_DEFINITION = "fulfillment.v1"
