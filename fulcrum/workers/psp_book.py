"""What really happened at the simulated payment provider, and what can still happen? Pure.

A key stands for one request for ever, and gets the same answer for ever: a refusal, too, is written down.

Long, because every act on a payment, with its refusals, is decided on the same book.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from fulcrum.workers.psp_tokens import lapse, lapses_unsaid, refusal

_AUTHORIZATIONS = UUID("4b1c5d0e-93f7-5a53-8f6c-0d1f5f0f7a11")
_STATUS = {
    "authorize": "authorized",
    "decline": "declined",
    "reauthorize": "authorized",
    "refuse_reauthorize": "declined",
    "void": "voided",
    "capture": "captured",
    "refuse_capture": "capture_refused",
    "refund": "refunded",
    "refuse_refund": "refund_refused",
}
#: What makes a hold.
_HOLDS = ("authorize", "reauthorize")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Something that really happened, once.

    ``kind``: authorize, reauthorize, void, capture, refund, or the refusal of one of them; that of authorize
    is decline.

    ``id`` counts from 1; ``key`` is the idempotency key that made it happen; ``reference`` is the caller's
    name for the business it belongs to. Only a refusal has a ``code``, only a refused hold has no
    ``authorization_id``, and only a hold that lapses has ``expires_at``. ``replaces`` is the authorization
    that was to be held anew. ``amount_minor`` is what was held, taken or given back, or would have been.
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
    replaces: str | None = None

    @property
    def status(self) -> str:
        """What it left behind."""
        return _STATUS[self.kind]


class KeyReused(Exception):
    """The idempotency key was used for another request."""


class NoSuchAuthorization(Exception):
    """Nothing was ever authorized under this id."""


class WrongState(Exception):
    """The authorization was captured before, or another one took its place, so it cannot be voided."""


@dataclass(frozen=True, slots=True)
class Request:
    """What an authorization is asked for."""

    reference: str
    token: str
    amount_minor: int
    currency: str


@dataclass(slots=True)
class _Hold:
    """What an authorization stands at."""

    made: Effect
    voided: Effect | None = None
    replaced: bool = False
    captured_minor: int = 0
    refunded_minor: int = 0
    refunds_refused: int = 0

    def lapsed(self, now: datetime) -> bool:
        """Whether nothing is held any more, because of the time."""
        made = self.made
        if made.expires_at is None:
            return made.kind == "authorize" and lapses_unsaid(made.token)
        return now >= datetime.fromisoformat(made.expires_at)


class Book:
    """All effects, in order. What a key or an authorization stands at follows from them."""

    def __init__(self, effects: Iterable[Effect] = ()) -> None:
        self.effects: list[Effect] = []
        self._by_key: dict[str, Effect] = {}
        self._holds: dict[str, _Hold] = {}
        for effect in effects:
            self._add(effect)

    def authorization(self, authorization_id: str) -> Effect:
        """What made the hold. Raises NoSuchAuthorization."""
        return self._hold(authorization_id).made

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
            if request != _request(before):
                raise KeyReused(key)
            return before, False
        code = refusal(request.token)
        kind = "authorize" if code is None else "decline"
        authorization = f"auth_{uuid5(_AUTHORIZATIONS, key).hex}" if code is None else None
        return self._happen(key, kind, request, now, authorization, code), True

    def void(self, key: str, authorization_id: str, now: datetime) -> tuple[Effect, bool]:
        """Give up what is held; what is given up already stays so. Raises for what cannot be."""
        before = self._before(key, ("void",), authorization_id)
        if before is not None:
            return before, False
        hold = self._hold(authorization_id)
        if hold.voided is not None:
            return hold.voided, False
        if hold.captured_minor:
            raise WrongState(f"{authorization_id} is captured")
        if hold.replaced:
            raise WrongState(f"another authorization took the place of {authorization_id}")
        return self._happen(key, "void", _request(hold.made), now, authorization_id), True

    def reauthorize(self, key: str, authorization_id: str, now: datetime) -> tuple[Effect, bool]:
        """Hold anew what has lapsed, once, or refuse; False when it is an earlier answer again.

        What is still held is not held twice.
        """
        before = self._by_key.get(key)
        if before is not None:
            if (
                before.kind not in ("reauthorize", "refuse_reauthorize")
                or before.replaces != authorization_id
            ):
                raise KeyReused(key)
            return before, False
        hold = self._hold(authorization_id)
        code = refusal(hold.made.token, "reauthorize")
        if hold.voided is not None:
            code = "authorization_voided"
        elif hold.captured_minor:
            code = "already_captured"
        elif hold.replaced:
            code = "already_reauthorized"
        elif not hold.lapsed(now):
            code = "authorization_active"
        kind = "reauthorize" if code is None else "refuse_reauthorize"
        anew = f"auth_{uuid5(_AUTHORIZATIONS, key).hex}" if code is None else None
        request = _request(hold.made)
        return self._happen(key, kind, request, now, anew, code, replaces=authorization_id), True

    def capture(
        self, key: str, authorization_id: str, amount_minor: int, now: datetime
    ) -> tuple[Effect, bool]:
        """Take the amount of what is held, once, or refuse; False when it is an earlier answer again."""
        before = self._before(key, ("capture", "refuse_capture"), authorization_id, amount_minor)
        if before is not None:
            return before, False
        hold = self._hold(authorization_id)
        code = refusal(hold.made.token, "capture")
        if hold.voided is not None:
            code = "authorization_voided"
        elif hold.captured_minor:
            code = "already_captured"
        elif hold.replaced or hold.lapsed(now):
            code = "authorization_expired"
        elif amount_minor > hold.made.amount_minor:
            code = "amount_too_large"
        return self._money("capture", key, hold, amount_minor, now, code), True

    def refund(
        self, key: str, authorization_id: str, amount_minor: int, now: datetime
    ) -> tuple[Effect, bool]:
        """Give the amount back of what was taken, or refuse; False when it is an earlier answer again."""
        before = self._before(key, ("refund", "refuse_refund"), authorization_id, amount_minor)
        if before is not None:
            return before, False
        hold = self._hold(authorization_id)
        code = refusal(hold.made.token, "refund", hold.refunds_refused)
        if not hold.captured_minor:
            code = "not_captured"
        elif amount_minor > hold.captured_minor - hold.refunded_minor:
            code = "amount_too_large"
        return self._money("refund", key, hold, amount_minor, now, code), True

    def _money(
        self, kind: str, key: str, hold: _Hold, amount_minor: int, now: datetime, code: str | None
    ) -> Effect:
        made = hold.made
        request = Request(made.reference, made.token, amount_minor, made.currency)
        kind = kind if code is None else f"refuse_{kind}"
        return self._happen(key, kind, request, now, made.authorization_id, code)

    def _hold(self, authorization_id: str) -> _Hold:
        hold = self._holds.get(authorization_id)
        if hold is None:
            raise NoSuchAuthorization(authorization_id)
        return hold

    def _before(
        self,
        key: str,
        kinds: tuple[str, ...],
        authorization_id: str | None = None,
        amount_minor: int | None = None,
    ) -> Effect | None:
        """What happened under ``key``. Raises KeyReused when it stands for another request."""
        before = self._by_key.get(key)
        if before is None:
            return None
        if (
            before.kind not in kinds
            or authorization_id not in (None, before.authorization_id)
            or amount_minor not in (None, before.amount_minor)
        ):
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
        replaces: str | None = None,
    ) -> Effect:
        lapses = lapse(request.token, now) if kind in _HOLDS else None
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
            replaces=replaces,
        )
        self._add(effect)
        return effect

    def _add(self, effect: Effect) -> None:
        self.effects.append(effect)
        self._by_key[effect.key] = effect
        if effect.kind == "reauthorize" and effect.replaces is not None:
            self._holds[effect.replaces].replaced = True
        if effect.authorization_id is None:
            return
        match effect.kind:
            case "authorize" | "reauthorize":
                self._holds[effect.authorization_id] = _Hold(effect)
            case "void":
                self._holds[effect.authorization_id].voided = effect
            case "capture":
                self._holds[effect.authorization_id].captured_minor = effect.amount_minor
            case "refund":
                self._holds[effect.authorization_id].refunded_minor += effect.amount_minor
            case "refuse_refund":
                self._holds[effect.authorization_id].refunds_refused += 1


def _request(effect: Effect) -> Request:
    return Request(effect.reference, effect.token, effect.amount_minor, effect.currency)


def operation_body(effect: Effect) -> dict[str, Any]:
    """What the provider says of an operation."""
    if effect.code is not None:
        return {"status": effect.status, "code": effect.code}
    body: dict[str, Any] = {"status": effect.status, "authorization_id": effect.authorization_id}
    if effect.kind in ("capture", "refund"):
        body["amount_minor"] = effect.amount_minor
    return body | {"expires_at": effect.expires_at} if effect.expires_at else body
