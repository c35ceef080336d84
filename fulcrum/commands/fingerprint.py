"""Which parked messages failed for one cause? Pure."""

from __future__ import annotations

import hashlib
import re

#: What differs between two failures of one cause, most special first.
_VARIABLE = (
    (re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE), "<url>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE), "<id>"),
    (re.compile(r"\b[0-7][0-9a-hjkmnp-tv-z]{25}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{12,}\b", re.IGNORECASE), "<hex>"),
    (re.compile(r"'[^']*'|\"[^\"]*\""), "<text>"),
    (re.compile(r"\d+"), "<n>"),
    (re.compile(r"\s+"), " "),
)
#: Line numbers move with every release and say nothing about the cause.
_FRAME = re.compile(r'File "[^"]*?(fulcrum/[^"]+)", line \d+, in (\S+)')
_FRAMES = 3


def fingerprint(message_type: str, error_class: str, error: str, traceback: str = "") -> str:
    """Twelve hex digits, equal for messages parked for one cause whatever their ids and numbers.

    The innermost frames of ``traceback`` that are Fulcrum's own tell apart what only reads the same.
    """
    told = [message_type, error_class, normalised(error), *own_frames(traceback)]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]


def normalised(error: str) -> str:
    """``error`` without what differs from message to message: ids, numbers, quoted text, addresses."""
    # A KeyError is nothing but its quoted key, which is then what tells causes apart.
    text = error.strip().strip("'\"").lower()
    for pattern, replacement in _VARIABLE:
        text = pattern.sub(replacement, text)
    return text


def own_frames(traceback: str) -> list[str]:
    """The last three frames in Fulcrum's code, innermost last, as file and function."""
    return [f"{file}:{function}" for file, function in _FRAME.findall(traceback)][-_FRAMES:]
