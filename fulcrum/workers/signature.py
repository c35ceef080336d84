"""Did the courier itself send these bytes, and just now? Pure.

The header is ``t=<seconds since 1970>,v1=<hex>[,v1=<hex>]``: each ``v1`` is an HMAC-SHA256 of
``<t>.<body>`` under one secret. A sender that changes its secret signs with both for a while, or the
receiver knows both, so that no message is lost meanwhile.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from fulcrum.errors import Forbidden

HEADER = "Courier-Signature"

_LONGEST = 1_000


def sign(secrets: Sequence[str], body: bytes, at: int) -> str:
    """The header for ``body``, sent ``at`` seconds since 1970."""
    return ",".join([f"t={at}", *(f"v1={_digest(secret, body, str(at))}" for secret in secrets)])


def verify(header: str | None, body: bytes, secrets: Sequence[str], now: float, tolerance: float) -> None:
    """Return if one signature is right and no older, or newer, than ``tolerance`` seconds.

    Forbidden says what is wrong otherwise, and never what would be right.
    """
    if not header:
        raise Forbidden(f"the header {HEADER} is missing")
    at, given = _parts(header)
    # Every pair is compared, each in the same time whatever it holds.
    right = [hmac.compare_digest(_digest(secret, body, at), each) for secret in secrets for each in given]
    if not any(right):
        raise Forbidden(f"no signature in {HEADER} is right: is it signed with another secret?")
    if abs(now - int(at)) > tolerance:
        raise Forbidden(
            f"t={at} in {HEADER} is more than {tolerance:g} s away from now: signed too long ago?"
        )


def _parts(header: str) -> tuple[str, list[str]]:
    pairs = [part.strip().partition("=") for part in header[:_LONGEST].split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    given = [value for name, _, value in pairs if name == "v1" and value.isascii()]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdecimal() and len(times[0]) <= 12):
        raise Forbidden(f"{HEADER} needs one t=<seconds since 1970>")
    if not given:
        raise Forbidden(f"{HEADER} needs a v1=<signature>")
    return times[0], given


def _digest(secret: str, body: bytes, at: str) -> str:
    return hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
