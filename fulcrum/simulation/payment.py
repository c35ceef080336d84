"""The payment worker: what may have been asked is looked up first; once a void has begun, nothing is held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fulcrum.saga import identity
from fulcrum.saga.messages import (
    AuthorizePayment,
    CapturePayment,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentCaptureRefused,
    PaymentDeclined,
    PaymentNotFound,
    PaymentReversalRefused,
    PaymentReversed,
    PaymentVoided,
    QueryPayment,
    ReversePayment,
    StepCommand,
    VoidPayment,
)
from fulcrum.simulation.environment import Environment
from fulcrum.simulation.invariants import Invariants
from fulcrum.simulation.logs import Log
from fulcrum.simulation.participant import Handling, Participant
from fulcrum.simulation.provider import Authorization, Provider

_STORE, _CALL = 0.004, 0.05  # seconds


@dataclass(slots=True)
class Payment:
    """What is stored of one workflow; ``asked`` None on a fence that came before any authorization.

    ``renewal`` is asked for in place of an authorization that lapsed before it was captured.
    """

    asked: AuthorizePayment | None
    authorization_id: str | None = None
    declined: bool = False
    voiding: bool = False
    voided: bool = False
    capture: CapturePayment | None = None
    renewal: AuthorizePayment | None = None


class PaymentWorker(Participant):
    """Carries out each command in moves, as ``fulcrum/workers/payment.py`` does.

    ``refused`` is told of a workflow whose money is not given back, so that a person looks.
    """

    def __init__(
        self,
        env: Environment,
        logs: Sequence[Log],
        invariants: Invariants,
        provider: Provider,
        refused: Callable[[str], None],
    ) -> None:
        super().__init__(env, "payment", logs, invariants)
        self.provider = provider
        self._refused = refused
        self._payments: dict[str, Payment] = {}

    def handle(self, command: StepCommand) -> Handling:
        """Move by move to the answer."""
        yield _STORE
        again = command.command_id in self.inbox
        self.inbox.setdefault(command.command_id, None)
        match command:
            case AuthorizePayment():
                yield from self._authorize(command, again)
            case VoidPayment():
                yield from self._void(command)
            case QueryPayment():
                yield from self._query(command)
            case CapturePayment():
                yield from self._capture(command)
            case ReversePayment():
                yield from self._reverse(command)

    def _authorize(self, command: AuthorizePayment, again: bool) -> Handling:
        payment = self._payments.get(command.workflow_id)
        if payment is None:
            payment = self._payments[command.workflow_id] = Payment(command)
        if payment.voiding or payment.voided:
            yield from self._too_late(command, payment, again)
            return
        if self.repeat(command):
            return
        outcome = None
        if again:
            yield _CALL
            outcome = self.provider.look_up(command.command_id)
        if outcome is None:
            yield _CALL
            outcome = self.provider.authorize(command)
        yield _STORE
        self._settle(command, payment, outcome)

    def _too_late(self, command: AuthorizePayment, payment: Payment, again: bool) -> Handling:
        """A void came first: leave nothing held under this command's key, and decline."""
        if again:
            yield _CALL
            found = self.provider.look_up(command.command_id)
            if found is not None and found.state != "declined":
                yield _CALL
                self.provider.void(found.authorization_id)
        yield _STORE
        self.answer(command, PaymentDeclined, reason="fenced")

    def _void(self, command: VoidPayment) -> Handling:
        payment = self._payments.setdefault(command.workflow_id, Payment(None))
        if not (payment.declined or payment.voided or payment.asked is None):
            payment.voiding = True
            if payment.authorization_id is None:
                yield _CALL
                found = self.provider.look_up(payment.asked.command_id)
                if found is not None and found.state != "declined":
                    payment.authorization_id = found.authorization_id
            if payment.authorization_id is not None:
                yield _CALL
                self.provider.void(payment.authorization_id)
            yield _STORE
        payment.voided = True
        self.answer(command, PaymentVoided, authorization_id=payment.authorization_id)

    def _query(self, command: QueryPayment) -> Handling:
        """What is known answers in the name of the command asked about; else nobody has heard of it."""
        payment = self._payments.get(command.workflow_id)
        capture = payment.capture if payment is not None else None
        if capture is not None and capture.command_id == command.asked_command_id:
            yield from self._query_capture(command, capture)
            return
        asked = payment.asked if payment is not None else None
        if payment is not None and asked is not None and not (payment.voiding or payment.voided):
            known = self.inbox.get(asked.command_id)
            if known is None:
                yield _CALL
                outcome = self.provider.look_up(asked.command_id)
                yield _STORE
                if outcome is not None:
                    self._settle(asked, payment, outcome)
                    known = self.inbox[asked.command_id]
            if known is not None:
                self.answer_as(command, known)
                return
        self.answer(command, PaymentNotFound, asked_command_id=command.asked_command_id)

    def _query_capture(self, command: QueryPayment, capture: CapturePayment) -> Handling:
        """A capture that was not finished counts as not heard of: it is asked for again, and goes on."""
        yield _STORE
        known = self.inbox.get(capture.command_id)
        if known is not None:
            self.answer_as(command, known)
        else:
            self.answer(command, PaymentNotFound, asked_command_id=command.asked_command_id)

    def _capture(self, command: CapturePayment) -> Handling:
        """Each call is made under a key of its own, so that all of it can be done again."""
        payment = self._payments.setdefault(command.workflow_id, Payment(None))
        if self.repeat(command):
            return
        if payment.voiding or payment.voided or payment.declined or payment.asked is None:
            yield _STORE
            self.answer(command, PaymentCaptureRefused, reason="nothing_held")
            return
        payment.capture = command
        yield _CALL
        found = self.provider.look_up(payment.asked.command_id)
        outcome = "refused"
        if found is not None and found.state != "declined":
            payment.authorization_id = found.authorization_id
            yield _CALL
            outcome = self.provider.capture(found.authorization_id, command.amount_minor, command.command_id)
        if outcome == "lapsed":
            renewal_id = identity.command_id(command.workflow_id, command.step, "renewal", 1)
            payment.renewal = replace(payment.asked, command_id=renewal_id)
            yield _CALL
            found = self.provider.authorize(payment.renewal)
            if found.state != "declined":
                yield _CALL
                outcome = self.provider.capture(found.authorization_id, command.amount_minor, renewal_id)
        yield _STORE
        if outcome != "captured" or found is None:
            self.answer(command, PaymentCaptureRefused, reason=outcome)
            return
        self.answer(
            command,
            PaymentCaptured,
            authorization_id=found.authorization_id,
            amount_minor=command.amount_minor,
            currency=command.currency,
            reauthorized=payment.renewal is not None,
        )

    def _reverse(self, command: ReversePayment) -> Handling:
        """Whatever is found under any key is given back, be it held or taken."""
        payment = self._payments.setdefault(command.workflow_id, Payment(None))
        if self.repeat(command):
            return
        payment.voiding = True
        refunded = 0
        for asked in (payment.asked, payment.renewal):
            if asked is None:
                continue
            yield _CALL
            found = self.provider.look_up(asked.command_id)
            if found is None or found.state == "declined":
                continue
            payment.authorization_id = found.authorization_id
            yield _CALL
            given = self.provider.give_back(found.authorization_id)
            if given is None:
                yield _STORE
                self.answer(command, PaymentReversalRefused, reason="provider_refused")
                self._refused(command.workflow_id)
                return
            refunded += given
        yield _STORE
        payment.voided = True
        currency = payment.asked.currency if payment.asked is not None else None
        self.answer(
            command,
            PaymentReversed,
            authorization_id=payment.authorization_id,
            refunded_minor=refunded,
            currency=currency,
        )

    def _settle(self, command: AuthorizePayment, payment: Payment, outcome: Authorization) -> None:
        payment.declined = outcome.state == "declined"
        if payment.declined:
            self.answer(command, PaymentDeclined, reason="card_declined")
            return
        payment.authorization_id = outcome.authorization_id
        self.answer(
            command,
            PaymentAuthorized,
            authorization_id=outcome.authorization_id,
            amount_minor=command.amount_minor,
            currency=command.currency,
            expires_at=outcome.expires_at,
        )
