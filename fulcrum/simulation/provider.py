"""The payment provider, with its own book of what really happened."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from fulcrum.errors import OutcomeUnknown, Unavailable
from fulcrum.saga.messages import AuthorizePayment
from fulcrum.simulation.environment import Environment
from fulcrum.simulation.invariants import Invariants, Violation

DECLINED = "pay_declined"
UNCAPTURABLE = "pay_uncapturable"
_ANGRY = 3600.0  # seconds, on average, that it refuses to give money back
_SLOW = 20.0  # seconds, on average, until it acts on a request that nobody waits for any more


@dataclass(slots=True)
class Authorization:
    """What happened under one key; ``state`` is pending, held, declined, voided, lapsed, captured, refunded.

    ``refuses_until``: before that time, in virtual seconds, what is held or taken is not given back.
    """

    authorization_id: str
    workflow_id: str
    state: str
    expires_at: datetime | None = None
    capturable: bool = True
    captured_minor: int = 0
    refuses_until: float | None = None


class Provider:
    """Acts once per key. Raises OutcomeUnknown or Unavailable when it does not answer."""

    def __init__(self, env: Environment, invariants: Invariants) -> None:
        self._env = env
        self._invariants = invariants
        self._by_key: dict[str, Authorization] = {}
        self._by_id: dict[str, Authorization] = {}
        self._captures: dict[str, str] = {}
        self.held: dict[str, int] = {}
        #: What was taken and not given back, and what was taken in all.
        self.kept: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()

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

    def capture(self, authorization_id: str, amount_minor: int, key: str) -> str:
        """Take the amount under ``key``: captured, lapsed or refused."""
        known = self._captures.get(key)
        if known is not None:
            self._env.counts["duplicates.provider"] += 1
        elif not self._env.strikes("unanswered"):
            self._take(authorization_id, amount_minor, key)
        else:
            how = self._env.random.choice(("acts", "acts later", "does nothing"))
            if how == "does nothing":
                raise Unavailable("the provider did nothing and did not answer")
            self._captures[key] = "pending"
            if how == "acts":
                self._take(authorization_id, amount_minor, key)
            else:
                self._env.after(self._env.about(_SLOW), self._take, authorization_id, amount_minor, key)
            raise OutcomeUnknown("the provider did not answer")
        return self._known_capture(key)

    def look_up_capture(self, key: str) -> str | None:
        """What came of a capture; None when it was never heard of."""
        self._maybe_silent()
        return self._known_capture(key) if key in self._captures else None

    def give_back(self, authorization_id: str) -> int | None:
        """Give up what is held, or give back what was taken: how much; None when the provider refuses."""
        known = self._by_id[authorization_id]
        if known.state in ("held", "captured") and self._refuses(known):
            return None
        if known.state == "held":
            self._invariants.effect(authorization_id, "void", known.workflow_id)
            self._release(known, "voided")
        elif known.state == "captured":
            self._invariants.effect(authorization_id, "refund", known.workflow_id)
            known.state = "refunded"
            self.kept[known.workflow_id] -= known.captured_minor
            self._env.note(known.workflow_id, "provider", "refunded")
        self._maybe_silent()
        return known.captured_minor if known.state == "refunded" else 0

    def _refuses(self, known: Authorization) -> bool:
        if known.refuses_until is None:
            strikes = self._env.strikes("unrefunded")
            known.refuses_until = self._env.now + self._env.about(_ANGRY) if strikes else 0.0
        return self._env.now < known.refuses_until

    def _take(self, authorization_id: str, amount_minor: int, key: str) -> None:
        known = self._by_id[authorization_id]
        if known.state != "held":
            self._captures[key] = "lapsed" if known.state == "lapsed" else "refused"
            return
        if not known.capturable:
            self._captures[key] = "refused"
            return
        workflow_id = known.workflow_id
        self._invariants.effect(authorization_id, "capture", workflow_id)
        self._release(known, "captured")
        self._captures[key] = "captured"
        known.captured_minor = amount_minor
        self.kept[workflow_id] += amount_minor
        self.taken[workflow_id] += amount_minor

    def _known_capture(self, key: str) -> str:
        if self._captures[key] == "pending":
            raise OutcomeUnknown("the provider is at it")
        return self._captures[key]

    def _note(self, command: AuthorizePayment) -> Authorization:
        key = command.command_id
        new = Authorization(f"auth_{uuid5(UUID(key), 'authorization')}", command.workflow_id, "pending")
        self._by_key[key] = self._by_id[new.authorization_id] = new
        return new

    def _act(self, new: Authorization, command: AuthorizePayment) -> None:
        key = command.workflow_id
        self._invariants.effect(command.command_id, "authorize", key)
        new.capturable = command.payment_method != UNCAPTURABLE
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
