"""How does the simulated payment provider behave? Test tokens, and the book of what really happened. Pure.

The token of a payment method is a script for its authorizations, counted per idempotency key:

=================== ================================================================================
``pay_ok``          holds the amount
``pay_declined``    refuses: ``card_declined``
``pay_insufficient`` refuses: ``insufficient_funds``
``pay_timeout_ok``  holds the amount at the first request and never answers that one
``pay_timeout_no``  neither acts on the first request nor answers it
``pay_flaky_N``     answers 503 to the first N requests and does nothing
``pay_slow_MS``     acts after MS milliseconds
``pay_expires_S``   holds the amount for S seconds and says so; afterwards it cannot be captured
=================== ================================================================================

Every other token is refused: ``invalid_payment_method``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

_AUTHORIZATIONS = UUID("4b1c5d0e-93f7-5a53-8f6c-0d1f5f0f7a11")
_NUMBERED = re.compile(r"pay_(flaky|slow|expires)_(\d{1,6})")


# --- tokens ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reaction:
    """What one request gets: ``act`` on it, then ``answer`` it, after ``delay`` seconds.

    A request that is answered without being acted upon gets 503.
    """

    act: bool = True
    answer: bool = True
    delay: float = 0.0


_GOOD = ("pay_ok",)
_ANSWERLESS = {
    "pay_timeout_ok": Reaction(act=True, answer=False),
    "pay_timeout_no": Reaction(act=False, answer=False),
}
_REFUSED = {"pay_declined": "card_declined", "pay_insufficient": "insufficient_funds"}


def reaction(token: str, request: int) -> Reaction:
    """What request number ``request`` (from 1) under one key gets."""
    if token in _ANSWERLESS and request == 1:
        return _ANSWERLESS[token]
    name, number = _numbered(token)
    if name == "flaky" and request <= number:
        return Reaction(act=False)
    return Reaction(delay=number / 1000 if name == "slow" else 0.0)


def refusal(token: str) -> str | None:
    """The code with which ``token`` is declined, or None when it is good."""
    if token in _GOOD or token in _ANSWERLESS or _numbered(token)[0]:
        return None
    return _REFUSED.get(token, "invalid_payment_method")


def lapse(token: str, now: datetime) -> datetime | None:
    """When a hold made now lapses; None when it does not."""
    name, number = _numbered(token)
    return now + timedelta(seconds=number) if name == "expires" else None


def _numbered(token: str) -> tuple[str, int]:
    match = _NUMBERED.fullmatch(token)
    return (match[1], int(match[2])) if match else ("", 0)


# --- the book -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Something that really happened, once. ``kind`` is authorize, decline, void or capture.

    ``id`` counts from 1; ``key`` is the idempotency key that made it happen; ``reference`` is the caller's
    name for the business it belongs to. Only a decline has a ``code`` and no ``authorization_id``, and only
    a hold that lapses has ``expires_at``.
    """

    id: int
    at: str
    kind: str
    key: str
    reference: str
    token: str
    amount_minor: int
    currency: str
    authorization_id: str | None = None
    code: str | None = None
    expires_at: str | None = None

    @property
    def status(self) -> str:
        """What it left behind."""
        return {"authorize": "authorized", "decline": "declined", "void": "voided", "capture": "captured"}[
            self.kind
        ]


class KeyReused(Exception):
    """The idempotency key was used for another request."""


class NoSuchAuthorization(Exception):
    """Nothing was ever authorized under this id."""


class WrongState(Exception):
    """The authorization was captured or voided before, or lapsed, so this cannot be done to it."""


@dataclass(frozen=True, slots=True)
class Request:
    """What an authorization is asked for."""

    reference: str
    token: str
    amount_minor: int
    currency: str


class Book:
    """All effects, in order. What a key or an authorization stands at follows from them."""

    def __init__(self, effects: Iterable[Effect] = ()) -> None:
        self.effects: list[Effect] = []
        self._by_key: dict[str, Effect] = {}
        self._latest: dict[str, Effect] = {}
        for effect in effects:
            self._add(effect)

    def operation(self, key: str) -> Effect | None:
        """What happened under ``key``."""
        return self._by_key.get(key)

    def since(self, last: int, reference: str | None = None) -> list[Effect]:
        """The effects after number ``last``, of one reference or of all."""
        return [e for e in self.effects[last:] if reference is None or e.reference == reference]

    def authorize(self, key: str, request: Request, now: datetime) -> tuple[Effect, bool]:
        """Hold or refuse the amount; False when it is an earlier answer again. Raises KeyReused."""
        before = self._before(key, ("authorize", "decline"))
        if before is not None:
            if request != Request(before.reference, before.token, before.amount_minor, before.currency):
                raise KeyReused(key)
            return before, False
        code = refusal(request.token)
        kind = "authorize" if code is None else "decline"
        authorization = f"auth_{uuid5(_AUTHORIZATIONS, key).hex}" if code is None else None
        return self._happen(key, kind, request, now, authorization, code), True

    def void(self, key: str, authorization_id: str, now: datetime) -> tuple[Effect, bool]:
        """Give up what is held; what is given up already stays so. Raises for what cannot be."""
        return self._change("void", key, authorization_id, now)

    def capture(self, key: str, authorization_id: str, now: datetime) -> tuple[Effect, bool]:
        """Take what is held; what is taken already stays so. Raises for what cannot be."""
        return self._change("capture", key, authorization_id, now)

    def _change(self, kind: str, key: str, authorization_id: str, now: datetime) -> tuple[Effect, bool]:
        before = self._before(key, (kind,))
        if before is not None:
            if before.authorization_id != authorization_id:
                raise KeyReused(key)
            return before, False
        latest = self._latest.get(authorization_id)
        if latest is None:
            raise NoSuchAuthorization(authorization_id)
        if latest.kind == kind:
            return latest, False
        if latest.kind != "authorize":
            raise WrongState(f"{authorization_id} is {latest.status}")
        if kind == "capture" and latest.expires_at and now >= datetime.fromisoformat(latest.expires_at):
            raise WrongState(f"{authorization_id} lapsed at {latest.expires_at}")
        request = Request(latest.reference, latest.token, latest.amount_minor, latest.currency)
        return self._happen(key, kind, request, now, authorization_id), True

    def _before(self, key: str, kinds: tuple[str, ...]) -> Effect | None:
        before = self._by_key.get(key)
        if before is not None and before.kind not in kinds:
            raise KeyReused(key)
        return before

    def _happen(
        self,
        key: str,
        kind: str,
        request: Request,
        now: datetime,
        authorization_id: str | None,
        code: str | None = None,
    ) -> Effect:
        lapses = lapse(request.token, now) if kind == "authorize" else None
        effect = Effect(
            id=len(self.effects) + 1,
            at=now.isoformat(),
            kind=kind,
            key=key,
            reference=request.reference,
            token=request.token,
            amount_minor=request.amount_minor,
            currency=request.currency,
            authorization_id=authorization_id,
            code=code,
            expires_at=lapses.isoformat() if lapses else None,
        )
        self._add(effect)
        return effect

    def _add(self, effect: Effect) -> None:
        self.effects.append(effect)
        self._by_key[effect.key] = effect
        if effect.authorization_id is not None:
            self._latest[effect.authorization_id] = effect


def authorization_body(effect: Effect) -> dict[str, Any]:
    """What the provider says of an operation."""
    if effect.code is not None:
        return {"status": "declined", "code": effect.code}
    body = {"status": effect.status, "authorization_id": effect.authorization_id}
    return body | {"expires_at": effect.expires_at} if effect.expires_at else body
