"""What the workers have in common: queue, turns and inbox.

What a command's handling does between two ``yield`` is one transaction; at a ``yield`` the process may die.
Then nothing of the next transaction happened, and the delivery comes again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

from fulcrum.errors import Retryable
from fulcrum.saga import identity
from fulcrum.saga.definitions import DEFINITIONS, Kind
from fulcrum.saga.messages import Answer, StepCommand
from fulcrum.simulation.environment import Environment
from fulcrum.simulation.invariants import Invariants
from fulcrum.simulation.logs import Log
from fulcrum.simulation.sender import Sender

#: The handling of one command: it yields the seconds until its next transaction or call.
Handling = Generator[float, None, None]

_QUEUE = 0.02  # seconds, on average, from a publish to its delivery
_PREFETCH = 20  # deliveries that are carried out side by side
_RETRIES = (1.0, 5.0, 30.0, 120.0, 600.0)
_OPERATOR = 3600.0  # seconds, on average, until a parked command is replayed
#: A run asks for these until somebody answers, so an operator replays them all.
_FOR_EVER = tuple(
    step.do
    for definition in DEFINITIONS.values()
    for step in definition.steps
    if step.kind is not Kind.COMPENSATABLE
)


class Participant(Sender, ABC):
    """A worker. A repeated command gets its first answer; commands of one workflow take turns."""

    def __init__(self, env: Environment, name: str, logs: Sequence[Log], invariants: Invariants) -> None:
        super().__init__(env, name, logs)
        #: What each command received was answered with; None while it is being carried out.
        self.inbox: dict[str, Answer | None] = {}
        #: Commands that no copy of gets through; True when an operator will replay it.
        self.parked: dict[str, bool] = {}
        self.invariants = invariants
        self._sequences: dict[str, int] = {}
        self._deliveries: dict[int, StepCommand] = {}
        self._number = 0
        self._ready: deque[tuple[StepCommand, int]] = deque()
        self._turns: dict[str, list[tuple[StepCommand, int]]] = {}
        self._silent_until = 0.0
        self._fit: set[str] = set()

    @abstractmethod
    def handle(self, command: StepCommand) -> Handling:
        """Carry out ``command`` and answer it."""

    # --- the queue ----------------------------------------------------------------------------

    def publish(self, command: StepCommand) -> None:
        """The command is in the queue; it will be delivered at least once."""
        delay = self.env.about(_QUEUE)
        if self.env.strikes("reorder"):
            delay += self.env.about(3.0)
        if self.env.strikes("delay"):
            delay += self.env.about(300.0)
        self.env.after(delay, self._deliver, command, 0)
        if self.env.strikes("duplicate"):
            self.env.after(delay + self.env.about(30.0), self._deliver, command, 0)

    def fall_silent(self, seconds: float) -> None:
        """Do nothing for so long."""
        self.env.note(None, self.name, f"is silent for {seconds:.0f}s")
        self._silent_until = max(self._silent_until, self.env.now + seconds)

    def _deliver(self, command: StepCommand, tries: int) -> None:
        wait = self._silent_until - self.env.now
        if wait > 0:
            self.env.after(wait + self.env.about(0.1), self._deliver, command, tries)
        elif self.env.strikes("drop"):
            self.env.after(self.env.about(30.0), self._deliver, command, tries)
        elif self._parks(command):
            self.env.note(command.workflow_id, self.name, f"parks {type(command).__name__}")
        else:
            self._ready.append((command, tries))
            self._take()

    def _take(self) -> None:
        """Begin with what is ready, as far as there is room and its workflow has its turn."""
        while self._ready and self.up and len(self._deliveries) < _PREFETCH:
            command, tries = self._ready.popleft()
            waiting = self._turns.get(command.workflow_id)
            if waiting is not None:
                waiting.append((command, tries))
                continue
            self._number += 1
            self._deliveries[self._number] = command
            self._turns[command.workflow_id] = []
            self._go_on(self._number, command, self.handle(command), tries)

    def _parks(self, command: StepCommand) -> bool:
        key = command.command_id
        if key in self.parked:
            return True
        if key in self._fit:
            return False
        if not self.env.strikes("parked"):
            self._fit.add(key)
            return False
        self.parked[key] = isinstance(command, _FOR_EVER) or self.env.random.random() < 0.5
        if self.parked[key]:
            self.env.after(self.env.about(_OPERATOR), self._replay, command)
        return True

    def _replay(self, command: StepCommand) -> None:
        self.env.note(command.workflow_id, "operator", f"replays {type(command).__name__}")
        del self.parked[command.command_id]
        self._fit.add(command.command_id)
        self._deliver(command, 0)

    # --- one delivery -------------------------------------------------------------------------

    def _go_on(self, number: int, command: StepCommand, handling: Handling, tries: int) -> None:
        try:
            pause = next(handling)
        except StopIteration:
            if not self.crashes("before an ack"):
                self._done(number, command)
        except Retryable as error:
            self.env.note(command.workflow_id, self.name, f"{type(command).__name__}: {error}")
            self._done(number, command)
            pause = _RETRIES[min(tries, len(_RETRIES) - 1)]
            self.env.after(pause, self._deliver, command, tries + 1)
        else:
            if not self.crashes(f"while it carries out {type(command).__name__}"):
                self.later(pause, self._go_on, number, command, handling, tries)

    def _done(self, number: int, command: StepCommand) -> None:
        del self._deliveries[number]
        self._ready.extend(self._turns.pop(command.workflow_id))
        self.later(0.0, self._take)

    def _lost(self) -> None:
        """What was not acknowledged is delivered again."""
        super()._lost()
        waiting = [each for turn in self._turns.values() for each in turn]
        unacknowledged = [(command, 0) for command in self._deliveries.values()]
        self._ready.extend((*waiting, *unacknowledged))
        self._turns.clear()
        self._deliveries.clear()

    def _started(self) -> None:
        super()._started()
        self._take()

    # --- answers ------------------------------------------------------------------------------

    def repeat(self, command: StepCommand) -> bool:
        """Whether the command was answered before; then that answer leaves again."""
        answer = self.inbox.get(command.command_id)
        if answer is None:
            return False
        self.env.counts["duplicates.command"] += 1
        self._leave(command, answer, "again")
        return True

    def answer(self, command: StepCommand, kind: type[Answer], **own: Any) -> None:
        """Answer ``command``, in the transaction that is running; a repeat gets its first answer."""
        if self.repeat(command):
            return
        event = self.inbox[command.command_id] = self._event(command, kind, **own)
        self._leave(command, event, "")

    def tell(self, command: StepCommand, kind: type[Answer], **own: Any) -> None:
        """What became of the effect of ``command`` after its answer."""
        self._leave(command, self._event(command, kind, **own), "by itself")

    def answer_as(self, command: StepCommand, event: Answer) -> None:
        """Answer ``command`` with another command's answer."""
        self.inbox[command.command_id] = event
        self._leave(command, event, f"in the name of {event.command_id[:8]}")

    def _event(self, command: StepCommand, kind: type[Answer], **own: Any) -> Answer:
        """The next event of this workflow on this service's stream."""
        key = command.workflow_id
        sequence = self._sequences[key] = self._sequences.get(key, 0) + 1
        event = kind(
            event_id=identity.event_id(command.command_id, kind.__name__),
            workflow_id=key,
            sequence=sequence,
            occurred_at=self.env.moment(),
            command_id=command.command_id,
            **own,
        )
        self.invariants.answered(event)
        return event

    def _leave(self, command: StepCommand, event: Answer, how: str) -> None:
        told = f"{type(command).__name__} -> {type(event).__name__} {event.stream}/{event.sequence} {how}"
        self.env.note(command.workflow_id, self.name, told.rstrip())
        self.send(event)
