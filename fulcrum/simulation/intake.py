"""The intake: intents, and what people ask for behind them, through its own outbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fulcrum.saga import identity
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.messages import CancelRequested, IntentCreated, Line, OperatorRequested
from fulcrum.saga.verbs import Verb
from fulcrum.simulation.environment import Environment
from fulcrum.simulation.logs import Log
from fulcrum.simulation.provider import DECLINED
from fulcrum.simulation.sender import Sender

SCARCE = "scarce"
SKUS = ("sku-1", "sku-2", "sku-3", "sku-4", SCARCE)
_ARRIVALS = 60.0  # seconds within which all intents arrive


class Intake(Sender):
    """Accepts every intent once; its workflow's events on this stream are numbered from 1."""

    def __init__(self, env: Environment, logs: Sequence[Log]) -> None:
        super().__init__(env, "intake", logs)
        self.accepted: dict[str, IntentCreated] = {}
        self._asked: dict[str, int] = {}

    def plan(self, seed: int, workflows: int) -> None:
        """Let so many intents arrive, and people ask for things."""
        for number in range(workflows):
            self.env.after(self.env.random.uniform(0.0, _ARRIVALS), self._accept, seed, number)

    def _accept(self, seed: int, number: int) -> None:
        intent = identity.intent_id("simulation", f"{seed}/{number}")
        key = identity.workflow_id(intent)
        random = self.env.random
        skus = random.sample(SKUS[:-1], random.randint(1, 2))
        if self.env.strikes("shortage"):
            skus[0] = SCARCE
        event = IntentCreated(
            event_id=identity.event_id(intent, "IntentCreated"),
            workflow_id=key,
            sequence=1,
            occurred_at=self.env.moment(),
            intent_id=intent,
            tenant="simulation",
            customer_ref=f"customer-{number}",
            lines=tuple(Line(sku, random.randint(1, 3)) for sku in skus),
            amount_minor=1000 + number,
            currency="EUR",
            payment_method=DECLINED if self.env.strikes("decline") else "pay_ok",
            ship_to="address",
            definition=random.choice(tuple(DEFINITIONS)),
            correlation_id=f"order-{number}",
        )
        self.accepted[key] = event
        self.env.note(key, self.name, f"accepts an intent for {event.definition}")
        self.send(event)
        if self.env.strikes("cancel"):
            for _ in range(random.choice((1, 1, 2))):
                self.env.after(10 ** random.uniform(-2.0, 1.5), self._cancel, key)
        if self.env.strikes("operator"):
            for _ in range(random.choice((1, 2, 3))):
                self.env.after(10 ** random.uniform(-2.0, 4.0), self._ask, key, random.choice(list(Verb)))

    def _cancel(self, key: str) -> None:
        self.send(CancelRequested(**self._next(key, "cancel")))

    def _ask(self, key: str, verb: Verb) -> None:
        """An operator asks for ``verb``, about any step or none in particular."""
        random = self.env.random
        step = random.choice(
            (None, None, *(row.name for row in DEFINITIONS[self.accepted[key].definition].steps))
        )
        seconds = random.randint(1, 3600) if verb is Verb.EXTEND else None
        asked = self._next(key, verb)
        self.send(OperatorRequested(**asked, verb=verb, step=step, seconds=seconds))
        self.env.counts[f"asked.{verb}"] += 1
        if verb is Verb.PAUSE:
            self.env.after(10 ** random.uniform(-1.0, 3.5), self._ask, key, Verb.RESUME)

    def _next(self, key: str, verb: str) -> dict[str, Any]:
        """What the next request about the workflow has in common with all others."""
        number = self._asked[key] = self._asked.get(key, 0) + 1
        self.env.note(key, self.name, f"accepts request {number}: {verb}")
        return {
            "event_id": identity.request_id(key, str(number)),
            "workflow_id": key,
            "sequence": 1 + number,
            "occurred_at": self.env.moment(),
            "reason": "the customer changed their mind",
            "actor": "simulation",
        }
