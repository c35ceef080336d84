"""The orchestrator: loads a run, asks ``decide``, stores the run, records the decision.

It follows ``fulcrum/agents/orchestrator.py``. Its writes go to Kafka together after a short linger; a crash
amid them leaves the first so many states, and the decisions of no more events than that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fulcrum.saga.decide import Decision, Duplicate, Forget, Undeliverable, decide
from fulcrum.saga.messages import Event
from fulcrum.saga.run import WorkflowRun
from fulcrum.saga.sent import Sent
from fulcrum.simulation.environment import Environment
from fulcrum.simulation.invariants import Invariants, Violation
from fulcrum.simulation.journal import Entry, Journal
from fulcrum.simulation.logs import Log, Place, Reader, partition_of
from fulcrum.simulation.process import Process

_LINGER = 0.01


@dataclass(frozen=True, slots=True)
class _Write:
    """What one event leads to: a state (None: the run is dropped) unless it is a repeat, and decisions."""

    workflow_id: str
    place: Place
    offset: int
    stores: bool
    state: WorkflowRun | None
    decisions: Sequence[Entry]
    proven: int | None


class Orchestrator:
    """Performs what ``decide`` says. ``runs`` is the table in memory, ``changelog`` what of it is durable."""

    def __init__(
        self,
        env: Environment,
        process: Process,
        streams: Sequence[Log],
        decisions: Sequence[Log],
        invariants: Invariants,
        changed: Callable[[str], None],
    ) -> None:
        self.runs: dict[str, WorkflowRun] = {}
        self.changelog: dict[str, WorkflowRun] = {}
        self.reader = Reader(env, process, streams, self._handle, invariants.event_committed)
        self._env = env
        self._process = process
        self._decisions = decisions
        self._invariants = invariants
        self._changed = changed
        self._journal = Journal()
        self._sent = Sent()
        self._writes: list[list[_Write]] = [[] for _ in decisions]

    def lost(self) -> None:
        """The process died."""
        self.runs = {}
        self._sent = Sent()
        self._writes = [[] for _ in self._decisions]

    def started(self) -> None:
        """Recover the table, then read on from the committed offsets."""
        self.runs = dict(self.changelog)
        self.reader.restart()

    # --- one event ----------------------------------------------------------------------------

    def _handle(self, place: Place, offset: int, event: Event) -> None:
        if self._process.crashes("before an event"):
            return
        run = self.runs.get(event.workflow_id)
        match self._decide(run, event):
            case Decision() as decision:
                self._perform(place, offset, event, run, decision)
            case Duplicate(known):
                self._repeat(place, offset, event, known)
            case Forget():
                self._forget(place, offset, event)
            case Undeliverable(reason):
                self._invariants.undeliverable(event, reason)
        self._process.crashes("after an event")

    def _decide(self, run: WorkflowRun | None, event: Event) -> Decision | Duplicate | Undeliverable | Forget:
        try:
            return decide(run, event)
        except Exception as error:
            raise Violation("decide is total", f"{event}: {error!r}", event.workflow_id) from error

    def _perform(
        self, place: Place, offset: int, event: Event, before: WorkflowRun | None, decision: Decision
    ) -> None:
        key = event.workflow_id
        unsent = self._journal.encode(decision, event)
        run = decision.run.with_unsent(unsent, self._sent.proven(key))
        self._invariants.decided(before, run)
        self.runs[key] = run
        self._changed(key)
        self._env.counts["decisions"] += 1
        due = self._due(run)
        self._note(event, due)
        self._write(_Write(key, place, offset, True, run, due, run.version))

    def _repeat(self, place: Place, offset: int, event: Event, run: WorkflowRun) -> None:
        """A duplicate is never just skipped: what it decided may not have been sent."""
        due = self._due(run)
        self._env.counts["duplicates.event"] += 1
        self._note(event, due, "duplicate")
        self._write(_Write(run.workflow_id, place, offset, False, None, due, run.version if due else None))

    def _forget(self, place: Place, offset: int, event: Event) -> None:
        known = self.runs.pop(event.workflow_id, None) is not None
        self._sent.forget(event.workflow_id)
        self._changed(event.workflow_id)
        self._invariants.forgotten(event)
        self._env.counts["forgotten"] += known
        self._note(event, (), "the run leaves the table" if known else "the run is gone already")
        self._write(_Write(event.workflow_id, place, offset, known, None, (), None))

    def _due(self, run: WorkflowRun) -> tuple[Entry, ...]:
        return tuple(self._journal.decode(unsent) for unsent in self._sent.due(run))

    def _note(self, event: Event, sent: Sequence[Entry], what: str = "") -> None:
        told = "; ".join([what] * bool(what) + [str(entry) for entry in sent])
        cause = f"{type(event).__name__} {event.stream}/{event.sequence}"
        self._env.note(event.workflow_id, "orchestrator", f"{cause}: {told}")

    # --- to Kafka -----------------------------------------------------------------------------

    def _write(self, write: _Write) -> None:
        partition = partition_of(write.workflow_id)
        writes = self._writes[partition]
        if not writes:
            self._process.later(_LINGER, self._flush, partition)
        writes.append(write)

    def _flush(self, partition: int) -> None:
        writes, self._writes[partition] = self._writes[partition], []
        if any(self._process.at_risk() for _ in range(2 * len(writes))):
            stored = self._env.random.randint(0, len(writes))
            most = len(writes) if self._env.strikes("torn") else stored
            sent = self._env.random.randint(0, most)
            self._store(writes[:stored])
            self._send(partition, writes[:sent])
            self._process.crash(f"after {stored} states and the decisions of {sent} of {len(writes)} events")
            return
        self._store(writes)
        self._send(partition, writes)
        if self._process.crashes("before it learns that all is acknowledged"):
            return
        for write in writes:
            if write.proven is not None:
                self._sent.prove(write.workflow_id, write.proven)
            self.reader.finish(write.place, write.offset)

    def _store(self, writes: Sequence[_Write]) -> None:
        for write in writes:
            if write.state is not None:
                self.changelog[write.workflow_id] = write.state
            elif write.stores:
                self.changelog.pop(write.workflow_id, None)

    def _send(self, partition: int, writes: Sequence[_Write]) -> None:
        for write in writes:
            for entry in write.decisions:
                self._invariants.journaled(entry)
                self._decisions[partition].append(entry)
