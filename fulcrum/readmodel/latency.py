"""How long did each transition take: since the one before, and since the command that it answers? Pure.

A decision does not know the decisions before it, so this is told when a whole timeline is read. An answer's
id is computed from its command's, so the command that is answered needs not be stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from fulcrum.readmodel.projection import compact
from fulcrum.saga import identity

#: Their events answer no command.
_NO_ANSWERS = frozenset({"intents", "timers"})


class Timing:
    """Tells what the transitions of one workflow took, one after the other from the first."""

    def __init__(self) -> None:
        self._previous: datetime | None = None
        self._sent: dict[str, tuple[datetime, dict[str, Any]]] = {}

    def tell(self, text: str) -> str:
        """The entry (JSON text) of the next version, with what it took, in milliseconds.

        A time can be negative: the parts that tell what happened have clocks of their own.
        """
        entry = json.loads(text)
        at = datetime.fromisoformat(entry["at"])
        asked = _answered(entry["cause"], self._sent)
        told = {
            "answered": None if asked is None else asked[1],
            "since_command_ms": None if asked is None else _milliseconds(asked[0], at),
            "since_previous_ms": None if self._previous is None else _milliseconds(self._previous, at),
        }
        for command in entry["commands"]:
            named = {name: command[name] for name in ("command_id", "type", "attempt")}
            # One that is sent again has waited since it was sent first.
            self._sent.setdefault(command["command_id"], (at, {**named, "version": entry["version"]}))
        self._previous = at
        return f"{text[:-1]},{compact(told)[1:]}"


def timed(entries: Iterable[str]) -> Iterator[str]:
    """Each entry of a whole timeline, as ``Timing`` tells it."""
    timing = Timing()
    return (timing.tell(text) for text in entries)


def _answered(
    cause: dict[str, Any], sent: dict[str, tuple[datetime, dict[str, Any]]]
) -> tuple[datetime, dict[str, Any]] | None:
    """The command that the event answers, and when it was sent; the last ones are the likely ones."""
    if cause["stream"] in _NO_ANSWERS:
        return None
    for command_id in reversed(sent):
        if identity.event_id(command_id, cause["type"]) == cause["event_id"]:
            return sent[command_id]
    return None


def _milliseconds(since: datetime, until: datetime) -> float:
    return round((until - since).total_seconds() * 1000, 3)
