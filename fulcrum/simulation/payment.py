"""The payment worker: what may have been asked is looked up first; once a void has begun, nothing is held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fulcrum.saga.messages import (
    AuthorizePayment,
    PaymentAuthorized,
    PaymentDeclined,
    PaymentNotFound,
    PaymentVoided,
    QueryPayment,
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
    """What is stored of one workflow; ``asked`` None on a fence that came before any authorization."""

    asked: AuthorizePayment | None
    authorization_id: str | None = None
    declined: bool = False
    voiding: bool = False
    voided: bool = False


class PaymentWorker(Participant):
    """Carries out each command in moves, as ``fulcrum/workers/payment.py`` does."""

    def __init__(
        self, env: Environment, logs: Sequence[Log], invariants: Invariants, provider: Provider
    ) -> None:
        super().__init__(env, "payment", logs, invariants)
        self.provider = provider
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
        """What is known answers in the name of the authorization; else nobody has heard of it."""
        payment = self._payments.get(command.workflow_id)
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
