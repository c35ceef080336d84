"""A run of fulfillment.v2 whose services answer in a word."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from intents import WORKFLOW, intent_created
from plausible import START, plausible

from fulcrum.saga import identity, timers
from fulcrum.saga.decide import Decision, decide
from fulcrum.saga.messages import (
    CancelRequested,
    DeliveryCreated,
    Event,
    Line,
    LineTerms,
    OperatorRequested,
    OrderPacked,
    ParcelHandedOver,
    PaymentAuthorized,
    PaymentCaptured,
    SignalReceived,
    StepCommand,
    StockConsumed,
    StockReserved,
)
from fulcrum.saga.run import StepState, WorkflowRun

V2 = "fulfillment.v2"
ORDERED = (Line("tea-01", 2), Line("cup", 1))
TERMS = (LineTerms(500, "cancel_line"), LineTerms(250, "cancel_order"))
#: The good answers before the parcel's own, in their order.
FORWARD: tuple[type[Event], ...] = (
    PaymentAuthorized,
    StockReserved,
    OrderPacked,
    PaymentCaptured,
    DeliveryCreated,
    ParcelHandedOver,
    StockConsumed,
)


class Fulfilment:
    """Feeds events to a run, numbering each stream; every event is a second later than the one before."""

    def __init__(self, definition: str = V2, **intent: Any) -> None:
        self.decisions: list[Decision] = []
        self._run: WorkflowRun | None = None
        self.feed(
            intent_created(
                **{
                    "occurred_at": START,
                    "definition": definition,
                    "lines": ORDERED,
                    "terms": TERMS,
                    "amount_minor": 1350,
                    **intent,
                }
            )
        )

    def through(self, last: type[Event]) -> Fulfilment:
        """Answer well up to ``last``."""
        for kind in FORWARD:
            own: dict[str, Any] = {"lines": ORDERED} if kind is OrderPacked else {}
            self.answer(kind, **own)
            if kind is last:
                return self
        raise AssertionError(last)

    def feed(self, event: Event) -> Decision:
        """Decide and keep the state."""
        decision = decide(self._run, event)
        assert isinstance(decision, Decision), decision
        self._run = decision.run
        self.decisions.append(decision)
        return decision

    @property
    def run(self) -> WorkflowRun:
        """The run."""
        assert self._run is not None
        return self._run

    def step(self, name: str) -> StepState:
        """Where a step stands."""
        return self.run.step(name)

    @property
    def sent(self) -> list[StepCommand]:
        """Every command that left."""
        return [command for decision in self.decisions for command in decision.commands]

    @property
    def asked(self) -> StepCommand:
        """The command that left last."""
        return self.sent[-1]

    @property
    def names(self) -> list[str]:
        """The types of all commands that left."""
        return [type(command).__name__ for command in self.sent]

    def answer(self, kind: type[Event], to: StepCommand | None = None, **own: Any) -> Decision:
        """The answer to ``to``, or to the command that left last."""
        return self._next(kind, command_id=(to or self.asked).command_id, **own)

    def cancel(self, reason: str = "changed their mind") -> Decision:
        """The customer cancels."""
        return self._next(CancelRequested, reason=reason)

    def ask(self, verb: str, **own: Any) -> Decision:
        """An operator asks."""
        return self._next(OperatorRequested, verb=verb, **own)

    def signal(self, name: str, payload: str) -> Decision:
        """Somebody tells something."""
        return self._next(SignalReceived, name=name, payload=payload)

    def fire(self) -> Decision:
        """The next time that the run waits for comes."""
        timer = timers.next_timer(self.run, timedelta(days=1))
        assert timer is not None
        return self.feed(timers.fire(self.run, timer, timer.due + timedelta(seconds=1)))

    @property
    def now(self) -> datetime:
        """When the next event happens."""
        return self.run.updated_at + timedelta(seconds=1)

    def _next(self, kind: type[Event], **own: Any) -> Decision:
        given = {
            "event_id": identity.event_id(WORKFLOW, f"{kind.__name__}/{self.run.version}"),
            "sequence": self.run.seen.get(kind.stream, 0) + 1,
            "occurred_at": self.now,
            **own,
        }
        return self.feed(plausible(kind, **given))
