"""The intake: intents, and what people ask for behind them, through its own outbox."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from fulcrum.saga import identity
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.messages import (
    CancelRequested,
    IntentCreated,
    Line,
    LineTerms,
    OperatorRequested,
    SignalReceived,
)
from fulcrum.saga.signals import HOLD, HOLDS, RELEASE
from fulcrum.saga.verbs import MIGRATE, Verb
from fulcrum.simulation.courier import FATES
from fulcrum.simulation.environment import Environment
from fulcrum.simulation.logs import Log
from fulcrum.simulation.provider import DECLINED, UNCAPTURABLE
from fulcrum.simulation.sender import Sender

SCARCE = "scarce"
SKUS = ("sku-1", "sku-2", "sku-3", "sku-4", SCARCE)
#: A definition with more steps than these is the whole fulfilment.
_FEW = 3
_POLICIES = ("cancel_line", "wait", "cancel_order")
_AT_ONCE = 0.5
_MENDED = 0.8
_PERSON = 1800.0  # seconds, on average, until somebody looks
_SHORT, _LONG = 1.5, 4.0  # powers of ten: seconds within which a workflow is asked for things
_ARRIVALS = 60.0  # seconds within which all intents arrive


class Intake(Sender):
    """Accepts every intent once; its workflow's events on this stream are numbered from 1."""

    def __init__(self, env: Environment, logs: Sequence[Log], definitions: Sequence[str]) -> None:
        super().__init__(env, "intake", logs)
        self._definitions = definitions
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
        definition = random.choice(self._definitions)
        whole = len(DEFINITIONS[definition].steps) > _FEW
        lines = tuple(Line(sku, random.randint(1, 3)) for sku in skus)
        event = IntentCreated(
            event_id=identity.event_id(intent, "IntentCreated"),
            workflow_id=key,
            sequence=1,
            occurred_at=self.env.moment(),
            intent_id=intent,
            tenant="simulation",
            customer_ref=f"customer-{number}",
            lines=lines,
            amount_minor=1000 + number,
            currency="EUR",
            payment_method=DECLINED if self.env.strikes("decline") else "pay_ok",
            ship_to="address",
            definition=definition,
            correlation_id=f"order-{number}",
        )
        if whole:
            event = self._with_terms(event)
        self.accepted[key] = event
        self.env.note(key, self.name, f"accepts an intent for {event.definition}")
        self.send(event)
        self._plan_requests(key, event, _LONG if whole else _SHORT)

    def _with_terms(self, event: IntentCreated) -> IntentCreated:
        """The same order with prices, and with what will happen to it."""
        random = self.env.random
        terms = tuple(LineTerms(random.randint(1, 500), random.choice(_POLICIES)) for _ in event.lines)
        goods = sum(each.unit_minor * line.quantity for each, line in zip(terms, event.lines, strict=True))
        uncaptured = event.payment_method != DECLINED and self.env.strikes("uncaptured")
        held = self.env.strikes("hold") and random.random() < _AT_ONCE
        return replace(
            event,
            terms=terms,
            amount_minor=goods + random.choice((0, 300)),
            payment_method=UNCAPTURABLE if uncaptured else event.payment_method,
            ship_to=f"{random.choice(FATES)}-address" if self.env.strikes("parcel") else event.ship_to,
            holds=tuple(random.sample(HOLDS, random.choice((1, 1, 2)))) if held else (),
        )

    def _plan_requests(self, key: str, event: IntentCreated, latest: float) -> None:
        random = self.env.random
        if self.env.strikes("cancel"):
            for _ in range(random.choice((1, 1, 2))):
                self.env.after(10 ** random.uniform(-2.0, latest), self._cancel, key)
        if self.env.strikes("operator"):
            for _ in range(random.choice((1, 2, 3))):
                asked = random.choice([*Verb, MIGRATE])
                self.env.after(10 ** random.uniform(-2.0, 4.0), self._ask, key, asked)
        for hold in event.holds:
            self.env.after(10 ** random.uniform(-1.0, 3.5), self._signal, key, RELEASE, hold)
        if latest == _LONG and self.env.strikes("hold"):
            for _ in range(random.choice((1, 2))):
                self.env.after(10 ** random.uniform(-2.0, 4.0), self._hold, key, random.choice(HOLDS))

    def mend(self, key: str) -> None:
        """A person learns that the money of a workflow is not given back, and asks again later, or never."""
        if self.env.random.random() < _MENDED:
            self.env.after(self.env.about(_PERSON), self._ask, key, Verb.RETRY, "authorize_payment")

    def _hold(self, key: str, hold: str) -> None:
        self._signal(key, HOLD, hold)
        self.env.after(10 ** self.env.random.uniform(-1.0, 3.5), self._signal, key, RELEASE, hold)

    def _signal(self, key: str, name: str, hold: str) -> None:
        payload = json.dumps({"hold": hold})
        self.send(SignalReceived(**self._next(key, f"{name} {hold}"), name=name, payload=payload))

    def _cancel(self, key: str) -> None:
        self.send(CancelRequested(**self._next(key, "cancel")))

    def _ask(self, key: str, verb: str, about: str | None = None) -> None:
        """An operator asks for ``verb`` ``about`` a step, or about any or none in particular."""
        random = self.env.random
        intent = self.accepted[key]
        steps = [row.name for row in DEFINITIONS[intent.definition].steps]
        step = about or random.choice((None, None, *steps))
        seconds = random.randint(1, 3600) if verb == Verb.EXTEND else None
        asked = self._next(key, verb)
        result = self._result(verb, step, intent)
        self.send(OperatorRequested(**asked, verb=verb, step=step, seconds=seconds, result=result))
        self.env.counts[f"asked.{verb}"] += 1
        if verb == Verb.PAUSE:
            self.env.after(10 ** random.uniform(-1.0, 3.5), self._ask, key, Verb.RESUME)

    def _result(self, verb: str, step: str | None, intent: IntentCreated) -> str | None:
        """What the operator gives with it."""
        if verb == MIGRATE:
            return json.dumps({"definition": self.env.random.choice(tuple(DEFINITIONS))})
        if verb == Verb.SKIP and step == "pack_order":
            return json.dumps({"lines": [asdict(line) for line in intent.lines], "parcels": 1})
        if verb == Verb.SKIP and step == "create_delivery":
            return json.dumps({"tracking_number": "by-hand"})
        return None

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
