"""The payment provider, with its own book of what really happened."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from fulcrum.errors import OutcomeUnknown, Unavailable
from fulcrum.saga.messages import AuthorizePayment
from fulcrum.simulation.environment import Environment
from fulcrum.simulation.invariants import Invariants, Violation

DECLINED = "pay_declined"
_SLOW = 20.0  # seconds, on average, until it acts on a request that nobody waits for any more


@dataclass(slots=True)
class Authorization:
    """What happened under one key; ``state`` is pending, held, declined, voided or lapsed."""

    authorization_id: str
    workflow_id: str
    state: str
    expires_at: datetime | None = None


class Provider:
    """Acts once per key. Raises OutcomeUnknown or Unavailable when it does not answer."""

    def __init__(self, env: Environment, invariants: Invariants) -> None:
        self._env = env
        self._invariants = invariants
        self._by_key: dict[str, Authorization] = {}
        self._by_id: dict[str, Authorization] = {}
        self.held: dict[str, int] = {}

    def authorize(self, command: AuthorizePayment) -> Authorization:
        """Hold the amount under the command's id, or decline."""
        known = self._by_key.get(command.command_id)
        if known is not None:
            self._env.counts["duplicates.provider"] += 1
            return self._answered(known)
        if not self._env.strikes("unanswered"):
            new = self._note(command)
            self._act(new, command)
            return new
        how = self._env.random.choice(("acts", "acts later", "does nothing"))
        self._env.note(command.workflow_id, "provider", f"is asked to authorize, {how} and says nothing")
        if how == "does nothing":
            raise Unavailable("the provider did nothing and did not answer")
        new = self._note(command)
        if how == "acts":
            self._act(new, command)
        else:
            self._env.after(self._env.about(_SLOW), self._act, new, command)
        raise OutcomeUnknown("the provider did not answer")

    def look_up(self, key: str) -> Authorization | None:
        """What happened under ``key``; None when it was never heard of."""
        self._maybe_silent()
        known = self._by_key.get(key)
        return None if known is None else self._answered(known)

    def void(self, authorization_id: str) -> None:
        """Give up what is held; what is given up or lapsed already stays so."""
        known = self._by_id[authorization_id]
        if known.state == "held":
            self._invariants.effect(authorization_id, "void", known.workflow_id)
            self._release(known, "voided")
        else:
            self._env.counts["duplicates.provider"] += 1
        self._maybe_silent()

    def _note(self, command: AuthorizePayment) -> Authorization:
        key = command.command_id
        new = Authorization(f"auth_{uuid5(UUID(key), 'authorization')}", command.workflow_id, "pending")
        self._by_key[key] = self._by_id[new.authorization_id] = new
        return new

    def _act(self, new: Authorization, command: AuthorizePayment) -> None:
        key = command.workflow_id
        self._invariants.effect(command.command_id, "authorize", key)
        new.state = "declined" if command.payment_method == DECLINED else "held"
        if new.state == "held":
            self.held[key] = self.held.get(key, 0) + 1
            if self.held[key] > 1:
                raise Violation("one hold per workflow", f"{self.held[key]} authorizations stand", key)
            lifetime = lifetime_of_hold(self._env)
            if lifetime is not None:
                new.expires_at = self._env.moment(lifetime)
                self._env.after(lifetime, self._lapse, new)
        self._env.note(key, "provider", new.state)

    def _lapse(self, known: Authorization) -> None:
        if known.state == "held":
            self._release(known, "lapsed")

    def _release(self, known: Authorization, state: str) -> None:
        known.state = state
        self.held[known.workflow_id] -= 1
        self._env.note(known.workflow_id, "provider", state)

    def _answered(self, known: Authorization) -> Authorization:
        if known.state == "pending":
            raise OutcomeUnknown("the provider is at it")
        return known

    def _maybe_silent(self) -> None:
        if self._env.strikes("unanswered"):
            raise OutcomeUnknown("the provider did not answer")


def lifetime_of_hold(env: Environment) -> float | None:
    """For how many seconds a new hold lasts; None: for good."""
    if not env.strikes("expiry"):
        return None
    return float(10 ** env.random.uniform(-1.5, 2.5))
