"""Pack jobs and warehouse commands as unit tests need them, and a floor in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fulcrum.saga import identity
from fulcrum.saga.messages import CancelPackJob, HandOverParcel, Line, LineTerms, PackOrder
from fulcrum.workers.warehouse_book import Book, KeyReused, NoSuchTask
from fulcrum.workers.warehouse_jobs import (
    Ask,
    Goal,
    HandOver,
    Learned,
    Look,
    NoTask,
    Offer,
    Pack,
    PackJob,
    PickAgain,
    PutBack,
    State,
    Task,
    TaskState,
)
from fulcrum.workers.warehouse_policy import PackLine
from fulcrum.workers.warehouse_progress import Pace

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WORKFLOW = "5a0c1f3e-8f0b-5c0e-9b57-3f6f1f0f7c11"
PACE = Pace(look=timedelta(seconds=1), pick_again=timedelta(seconds=60), goods=timedelta(days=3))
NUMBER = "TRACK1"
LINES = (("tea", 2), ("pot", 1))


def _step(step: str, command: str, attempt: int) -> dict[str, Any]:
    return {
        "command_id": identity.command_id(WORKFLOW, step, command, attempt),
        "workflow_id": WORKFLOW,
        "step": step,
        "attempt": attempt,
        "issued_at": NOON,
    }


def pack(
    attempt: int = 1, lines: Sequence[tuple[str, int]] = LINES, on_short: Sequence[str] = ()
) -> PackOrder:
    """Pack these lines under these terms."""
    return PackOrder(
        **_step("pack_order", "PackOrder", attempt),
        lines=tuple(Line(sku, quantity) for sku, quantity in lines),
        terms=tuple(LineTerms(100, each) for each in on_short),
        ship_to="1 Road",
    )


def cancel(attempt: int = 1) -> CancelPackJob:
    """Put back what was picked."""
    return CancelPackJob(**_step("pack_order", "CancelPackJob", attempt))


def hand_over(attempt: int = 1, number: str = NUMBER) -> HandOverParcel:
    """Give it to the courier."""
    return HandOverParcel(**_step("hand_over", "HandOverParcel", attempt), tracking_number=number)


def job(state: State, goal: Goal | None = None, picked: Sequence[int] = (0, 0), **more: Any) -> PackJob:
    """A job of the first attempt that has told of three things."""
    made = PackJob(
        workflow_id=WORKFLOW,
        state=state,
        goal=goal,
        sequence=3,
        attempt=1,
        requested_at=NOON,
        pack_key=pack().command_id,
        ship_to="1 Road",
        lines=tuple(
            PackLine(sku, quantity, units) for (sku, quantity), units in zip(LINES, picked, strict=True)
        ),
    )
    return replace(made, **more)


class FloorInMemory:
    """The simulated floor without its HTTP: the same book, under a clock of the test's own."""

    def __init__(self, pace: timedelta = timedelta(seconds=1)) -> None:
        self.book = Book(pace)

    def ask(self, ask: Ask, now: datetime) -> Learned:
        """What the floor says."""
        try:
            return self._act(ask, now)
        except NoSuchTask:
            return NoTask()
        except KeyReused:
            return Task(TaskState.REFUSED)

    def _act(self, ask: Ask, now: datetime) -> Learned:
        match ask:
            case Offer(key, reference, ship_to, lines):
                self.book.offer(key, reference, ship_to, lines, now)
            case PickAgain(key):
                self.book.pick_again(key, now)
            case Pack(key):
                self.book.pack(key, now)
            case PutBack(key):
                self.book.cancel(key, now)
            case HandOver(key, number):
                self.book.hand_over(key, number, now)
            case Look():
                pass
        said = self.book.body(ask.key, now)
        picked = tuple(line["picked"] for line in said["lines"])
        return Task(TaskState(said["state"]), picked, said["parcels"])

    def units(self) -> dict[str, int]:
        """Units by kind of effect, and one for each effect without units."""
        found: dict[str, int] = {}
        for effect in self.book.effects:
            units = 1 if effect.quantity is None else effect.quantity
            found[effect.kind] = found.get(effect.kind, 0) + units
        return found
