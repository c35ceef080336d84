"""What may be shown of settings and logs? Everything but passwords and tokens."""

from __future__ import annotations

import re

HIDDEN = "***"

#: user:password@ of an address; password=... and the like of a DSN, a query or a log line.
_IN_ADDRESS = re.compile(r"(?<=://)([^:/@\s]*):[^@/\s]+@")
_NAMED = re.compile(
    r"""(?ix) ( \b[\w-]*(?:password|passwd|secret|token|api[_-]?key) ["']? \s* [=:] \s* ["']? )
        [^\s"'&,;}]+""",
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}")


def redacted(text: str) -> str:
    """``text`` with every password and token in it replaced."""
    text = _IN_ADDRESS.sub(rf"\1:{HIDDEN}@", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    return _NAMED.sub(rf"\1{HIDDEN}", text)
