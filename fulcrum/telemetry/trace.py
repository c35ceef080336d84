"""How does one trace go on from message to message? W3C trace context, as a ``traceparent`` string."""

from __future__ import annotations

import re
from secrets import token_hex

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")


def new_traceparent() -> str:
    """Begin a trace: ``00-<32 hex trace id>-<16 hex span id>-01`` (sampled)."""
    return f"00-{token_hex(16)}-{token_hex(8)}-01"


def trace_id(traceparent: str | None) -> str | None:
    """The trace that ``traceparent`` belongs to, 32 hex digits; None when it is missing or malformed."""
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return match[1] if match else None


def child_of(traceparent: str | None) -> str:
    """A new span in the same trace; a new trace when ``traceparent`` is missing or malformed.

    A sender's broken header must not fail the work it came with, so it is dropped, not refused.
    """
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if match is None:
        return new_traceparent()
    trace_id, flags = match.groups()
    return f"00-{trace_id}-{token_hex(8)}-{flags}"
