"""What must hold after every step? A violation stops the world."""

from __future__ import annotations

from collections.abc import Mapping

from fulcrum.saga.messages import (
    Answer,
    DeliveryCancelled,
    DeliveryDelayed,
    Event,
    OrderShort,
    PackJobCancelled,
    PaymentReversed,
    PaymentVoided,
    StepCommand,
    StockExpired,
    StockReleased,
    StockRestocked,
)
from fulcrum.saga.run import Status, WorkflowRun
from fulcrum.simulation.journal import Entry

#: Statuses in which no command may leave.
_SILENT = frozenset({Status.PAUSED, Status.TERMINATED})
#: They say how it goes, and are no answers.
_TOLD = (StockExpired, OrderShort, DeliveryDelayed)
#: What an undo that was answered refuses from then on.
_FENCED: Mapping[type[Answer], tuple[str, ...]] = {
    PaymentVoided: ("authorize",),
    PaymentReversed: ("authorize", "capture"),
    StockReleased: ("reserve",),
    StockRestocked: ("consume",),
    PackJobCancelled: ("pack", "hand over"),
    DeliveryCancelled: ("ship",),
}


class Violation(Exception):
    """An invariant does not hold; ``workflow_id`` is the workflow concerned, if it is one."""

    def __init__(self, invariant: str, detail: str, workflow_id: str | None) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant
        self.detail = detail
        self.workflow_id = workflow_id


class Invariants:
    """Told of every step, it keeps what it needs to judge the next one."""

    def __init__(self) -> None:
        self.journal: dict[str, dict[int, Entry]] = {}
        self._settled: set[tuple[str, str, int]] = set()
        self._published: set[str] = set()
        self._effects: set[tuple[str, str]] = set()
        self._answered: set[str] = set()
        self._fences: set[tuple[str, str]] = set()
        self._final: dict[str, Entry] = {}

    # --- deciding -----------------------------------------------------------------------------

    def decided(self, before: WorkflowRun | None, after: WorkflowRun) -> None:
        """The run has made a transition."""
        key = after.workflow_id
        expected = 1 if before is None else before.version + 1
        if after.version != expected:
            raise Violation("version dense", f"version {after.version} follows {expected - 1}", key)
        if before is not None and Status(before.status).final and after.status != before.status:
            raise Violation("terminal states never change", f"{before.status} -> {after.status}", key)

    def undeliverable(self, event: Event, reason: str) -> None:
        """Nobody may send what no run can take."""
        raise Violation("no message undeliverable", f"{type(event).__name__}: {reason}", event.workflow_id)

    def forgotten(self, event: Event) -> None:
        """This event leaves no decision behind."""
        self._settled.add(_place(event))

    # --- what is in Kafka ---------------------------------------------------------------------

    def journaled(self, entry: Entry) -> None:
        """A decision is in Kafka, maybe again."""
        key = entry.workflow_id
        known = self.journal.setdefault(key, {}).setdefault(entry.version, entry)
        if known is not entry and known != entry:
            told = f"version {entry.version} is ({known}) by {type(known.cause).__name__}"
            other = f"and ({entry}) by {type(entry.cause).__name__}"
            raise Violation("decisions unique per workflow and version", f"{told} {other}", key)
        if entry.commands and entry.status in _SILENT:
            raise Violation(f"nothing leaves a {entry.status} run", f"version {entry.version} ({entry})", key)
        final = self._final.get(key)
        if final is not None and entry.version > final.version and entry.status != final.status:
            raise Violation("terminal states never change", f"{final.status} -> {entry.status}", key)
        if Status(entry.status).final:
            self._final.setdefault(key, entry)
        self._settled.add(_place(entry.cause))

    def event_committed(self, event: Event) -> None:
        """The event will not be read again, so what it decided must be in Kafka."""
        if _place(event) not in self._settled:
            told = f"{type(event).__name__} {event.stream}/{event.sequence} is committed"
            raise Violation(
                "a decision reaches Kafka", f"{told} and its decision is not there", event.workflow_id
            )

    def published(self, command: StepCommand) -> None:
        """The command is in its queue."""
        self._published.add(command.command_id)

    def decision_committed(self, entry: Entry) -> None:
        """The decision will not be read again, so its commands must have been published."""
        for command in entry.commands:
            if command.command_id not in self._published:
                told = f"{type(command).__name__} of version {entry.version} was never published"
                raise Violation("a decision's commands reach the queue", told, entry.workflow_id)

    # --- effects ------------------------------------------------------------------------------

    def effect(self, command_id: str, kind: str, workflow_id: str) -> None:
        """The command has changed something in the world."""
        if (command_id, kind) in self._effects:
            raise Violation("one effect per command id", f"{kind} under {command_id}", workflow_id)
        if (workflow_id, kind) in self._fences:
            raise Violation("an undo leaves a fence", f"{kind} comes after it", workflow_id)
        self._effects.add((command_id, kind))

    def answered(self, event: Answer) -> None:
        """A command has got its answer; its repeats get the same one."""
        key = event.workflow_id
        if isinstance(event, _TOLD):
            return
        if event.command_id in self._answered:
            told = f"{type(event).__name__} is another one to {event.command_id}"
            raise Violation("one answer per command id", told, key)
        self._answered.add(event.command_id)
        self._fences.update((key, kind) for kind in _FENCED.get(type(event), ()))

    def stock(
        self, sku: str, received: int, available: int, reserved: int, consumed: int, workflow_id: str
    ) -> None:
        """The stock of a SKU has changed."""
        told = f"{sku}: received {received}, available {available}, reserved {reserved}, consumed {consumed}"
        if min(available, reserved, consumed) < 0:
            raise Violation("stock never negative", told, workflow_id)
        if received != available + reserved + consumed:
            raise Violation("stock conserved", told, workflow_id)


def _place(event: Event) -> tuple[str, str, int]:
    """What a run knows an event by; two timers that race for one number are one to it."""
    return event.workflow_id, event.stream, event.sequence


def journal_complete(journal: Mapping[str, Mapping[int, Entry]], workflow_id: str) -> Entry:
    """The last entry of the workflow; a violation when one is missing."""
    entries = journal.get(workflow_id)
    if not entries:
        raise Violation("journal complete", "no decision at all", workflow_id)
    missing = [version for version in range(1, max(entries) + 1) if version not in entries]
    if missing:
        raise Violation(
            "journal complete", f"versions {missing} of 1..{max(entries)} are missing", workflow_id
        )
    return entries[max(entries)]
