"""The warehouse worker: a pack job is picked in its own time, and may come short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fulcrum.saga.messages import (
    CancelPackJob,
    HandOverParcel,
    HandOverRefused,
    Line,
    LineTerms,
    OrderPacked,
    OrderShort,
    PackJobCancelled,
    PackOrder,
    PackRefused,
    ParcelHandedOver,
    ShortLine,
    StepCommand,
)
from fulcrum.simulation.environment import Environment
from fulcrum.simulation.invariants import Invariants
from fulcrum.simulation.logs import Log
from fulcrum.simulation.participant import Handling, Participant

_STORE = 0.004  # seconds
_PICK = 30.0  # seconds, on average
_WAIT = 3600.0  # seconds that it waits for goods at most


@dataclass(slots=True)
class PackJob:
    """What is stored of one workflow.

    ``state`` is picking, short, packed, handed_over, refused or cancelled. ``was_packed``: it was once;
    ``left``: the courier has it, or had.
    """

    state: str
    lines: tuple[Line, ...] = ()
    was_packed: bool = False
    left: bool = False


class WarehouseWorker(Participant):
    """Answers a pack job when it is picked; ``fetched`` is told when the courier has the parcel."""

    def __init__(
        self,
        env: Environment,
        logs: Sequence[Log],
        invariants: Invariants,
        fetched: Callable[[str], None],
    ) -> None:
        super().__init__(env, "warehouse", logs, invariants)
        self.jobs: dict[str, PackJob] = {}
        self._fetched = fetched

    def handle(self, command: StepCommand) -> Handling:
        """The whole command in one transaction."""
        yield _STORE
        if self.repeat(command) or command.command_id in self.inbox:
            return
        self.inbox[command.command_id] = None
        match command:
            case PackOrder():
                self._take_on(command)
            case CancelPackJob():
                self._cancel(command)
            case HandOverParcel():
                self._hand_over(command)

    def _take_on(self, command: PackOrder) -> None:
        if command.workflow_id in self.jobs:
            self.answer(command, PackRefused, reason="fenced", short=())
            return
        self.jobs[command.workflow_id] = PackJob("picking")
        self.env.after(self.env.about(_PICK), self._picked, command)

    def _picked(self, command: PackOrder) -> None:
        job = self.jobs[command.workflow_id]
        if job.state != "picking":
            self.answer(command, PackRefused, reason="cancelled", short=())
            return
        missing = self._missing(command.lines)
        short = tuple(
            ShortLine(line.sku, line.quantity, line.quantity - gone)
            for line, gone in zip(command.lines, missing, strict=True)
            if gone
        )
        policies = {terms.on_short for terms, gone in zip(_terms_of(command), missing, strict=True) if gone}
        left = tuple(
            Line(line.sku, line.quantity - gone)
            for line, gone in zip(command.lines, missing, strict=True)
            if line.quantity > gone
        )
        if "cancel_order" in policies or not left:
            self._refuse(command, job, short)
        elif "wait" in policies:
            self._wait(command, job, short)
        else:
            self._pack(command, job, left)

    def _missing(self, lines: Sequence[Line]) -> list[int]:
        """How many units of each line cannot be found."""
        if not self.env.strikes("short"):
            return [0 for _ in lines]
        return [self.env.random.randint(0, line.quantity) for line in lines]

    def _wait(self, command: PackOrder, job: PackJob, short: tuple[ShortLine, ...]) -> None:
        job.state = "short"
        until = self.env.random.uniform(1.0, _WAIT)
        self.tell(
            command, OrderShort, pack_job_id=_job_id(command), short=short, waits_until=self.env.moment(until)
        )
        comes = self.env.random.random() < 0.5
        self.env.after(until * (0.5 if comes else 1.0), self._waited, command, comes, short)

    def _waited(self, command: PackOrder, comes: bool, short: tuple[ShortLine, ...]) -> None:
        job = self.jobs[command.workflow_id]
        if job.state != "short":
            self.answer(command, PackRefused, reason="cancelled", short=())
        elif comes:
            self._pack(command, job, command.lines)
        else:
            self._refuse(command, job, short)

    def _pack(self, command: PackOrder, job: PackJob, lines: tuple[Line, ...]) -> None:
        self.invariants.effect(command.command_id, "pack", command.workflow_id)
        job.state, job.lines, job.was_packed = "packed", lines, True
        self.answer(command, OrderPacked, pack_job_id=_job_id(command), lines=lines, parcels=1)

    def _refuse(self, command: PackOrder, job: PackJob, short: tuple[ShortLine, ...]) -> None:
        job.state = "refused"
        self.answer(command, PackRefused, reason="short", short=short)

    def _cancel(self, command: CancelPackJob) -> None:
        known = self.jobs.get(command.workflow_id)
        job = self.jobs.setdefault(command.workflow_id, PackJob("cancelled"))
        job.state = "cancelled"
        job_id = None if known is None else _job_id(command)
        self.answer(command, PackJobCancelled, pack_job_id=job_id, handed_over=job.left)

    def _hand_over(self, command: HandOverParcel) -> None:
        job = self.jobs.setdefault(command.workflow_id, PackJob("refused"))
        if job.state != "packed":
            self.answer(command, HandOverRefused, reason=job.state)
            return
        self.invariants.effect(command.command_id, "hand over", command.workflow_id)
        job.state, job.left = "handed_over", True
        self._fetched(command.workflow_id)
        self.answer(command, ParcelHandedOver, pack_job_id=_job_id(command), lines=job.lines)


def _terms_of(command: PackOrder) -> tuple[LineTerms, ...]:
    return command.terms or tuple(LineTerms(0, "cancel_order") for _ in command.lines)


def _job_id(command: StepCommand) -> str:
    return f"job-{command.workflow_id[:8]}"
