"""Which token makes the simulated payment provider do what? Pure.

The token of a payment method is a script for what is done with it, counted per idempotency key:

======================== ===========================================================================
``pay_ok``               holds the amount
``pay_declined``         refuses: ``card_declined``
``pay_insufficient``     refuses: ``insufficient_funds``
``pay_timeout_ok``       holds the amount at the first request and never answers that one
``pay_timeout_no``       neither acts on the first request nor answers it
``pay_flaky_N``          answers 503 to the first N requests and does nothing
``pay_slow_MS``          acts after MS milliseconds
``pay_expires_S``        holds the amount for S seconds and says so; afterwards it cannot be captured
``pay_expires``          holds the amount, and lets the hold lapse unsaid before anything is captured
``pay_expires_for_good`` the same, and refuses another hold in its place
======================== ===========================================================================

With ``capture_`` or ``refund_`` behind ``pay_`` the amount is held as by ``pay_ok``, and that act goes by the
script: ``pay_capture_declined``, ``pay_capture_timeout_ok``, ``pay_refund_timeout_no``,
``pay_refund_flaky_2``, ``pay_refund_slow_300``. ``pay_refund_fails`` refuses every refund, and
``pay_refund_fails_MS`` accepts it and fails it MS milliseconds later. ``pay_refund_late`` accepts a refund;
half a second later it fails the first one, and carries out any other.

Every other token is refused: ``invalid_payment_method``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

_SCRIPT = re.compile(
    r"pay_(?:(?P<act>capture|refund)_)?"
    r"(?:(?P<plain>ok|declined|insufficient|timeout_ok|timeout_no|expires|expires_for_good|fails|late)"
    r"|(?P<numbered>flaky|slow|expires|fails)_(?P<number>\d{1,6}))"
)
_AUTHORIZE = "authorize"
_REFUSED = {
    "declined": "card_declined",
    "insufficient": "insufficient_funds",
    "fails": "refund_failed",
}
#: Scripts of one act only.
_ONLY = {"expires": None, "expires_for_good": None, "fails": "refund", "late": "refund"}
#: Seconds that ``pay_refund_late`` takes for a refund.
_LATE = 0.5


@dataclass(frozen=True, slots=True)
class Reaction:
    """What one request gets: ``act`` on it, then ``answer`` it, after ``delay`` seconds.

    A request that is answered without being acted upon gets 503. One that is ``accepted`` is answered at
    once, and acted upon after the delay.
    """

    act: bool = True
    answer: bool = True
    delay: float = 0.0
    accepted: bool = False


def reaction(token: str, request: int, act: str = _AUTHORIZE) -> Reaction:
    """What request number ``request`` (from 1) under one key gets; ``act``: authorize, capture or refund."""
    name, number = _script(token, act)
    if name in ("timeout_ok", "timeout_no") and request == 1:
        return Reaction(act=name == "timeout_ok", answer=False)
    if name == "flaky" and request <= number:
        return Reaction(act=False)
    if name == "late" or (name == "fails" and number):
        return Reaction(delay=number / 1000 if number else _LATE, accepted=True)
    return Reaction(delay=number / 1000 if name == "slow" else 0.0)


def refusal(token: str, act: str = _AUTHORIZE, refused: int = 0) -> str | None:
    """The code with which ``act`` is refused, or None when it is done.

    ``act`` may be ``reauthorize``, too; ``refused`` counts how often it was refused for this hold.
    """
    if not _known(token):
        return "invalid_payment_method"
    if act == "reauthorize":
        return "card_declined" if _script(token, _AUTHORIZE)[0] == "expires_for_good" else None
    name, _ = _script(token, act)
    if name == "late":
        return None if refused else "refund_failed"
    return _REFUSED.get(name)


def lapse(token: str, now: datetime) -> datetime | None:
    """When a hold made now lapses, as far as it is told; None when it does not."""
    name, number = _script(token, _AUTHORIZE)
    return now + timedelta(seconds=number) if name == "expires" and number else None


def lapses_unsaid(token: str) -> bool:
    """Whether the first hold is gone before it can be captured."""
    name, number = _script(token, _AUTHORIZE)
    return name in ("expires", "expires_for_good") and not number


def _known(token: str) -> bool:
    match = _SCRIPT.fullmatch(token)
    if match is None:
        return False
    return _ONLY.get(match["plain"] or match["numbered"], match["act"]) == match["act"]


def _script(token: str, act: str) -> tuple[str, int]:
    """The name and the number of the script for ``act``; ``ok`` when the token is about another act."""
    match = _SCRIPT.fullmatch(token)
    if match is None or (match["act"] or _AUTHORIZE) != act:
        return "ok", 0
    return match["plain"] or match["numbered"], int(match["number"] or 0)
