"""What do RabbitMQ 3.10 and 4.x say differently, and how is both read as one?

They differ in three things that matter here, and nothing else in Fulcrum asks for the version:

* how often a message was handed out before: 3.10 counts every return in ``x-delivery-count``; from 4.3 that
  header counts failures only, and ``x-acquired-count`` has what it had before (``redeliveries``);
* the delivery limit of a quorum queue that names none: none in 3.10, 20 in 4.x, past which a message without
  a dead-letter exchange is dropped. So every queue of ours names one (``fulcrum.commands.topology``);
* the text by which a queue with other arguments is refused: 4.x always knows a queue's type, 3.10 only when
  it was given, and either may leave out the type of a value (``difference_in``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: An argument that is not there.
ABSENT = "none"

_VALUE = r"(?:none|(?:the value )?'[^']*'(?: of type '[^']*')?)"
_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for (?P<kind>queue|exchange) '(?P<name>[^']+)'.*?"
    rf"received (?P<wants>{_VALUE}) but current is (?P<has>{_VALUE})"
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One argument of a queue or exchange that exists: what it ``has`` and what we ``want``, as text."""

    kind: str
    name: str
    argument: str
    has: str
    wants: str

    def value(self, ours: Any) -> Any:
        """What it has as an argument to declare with, None when absent; ``ours`` gives the type."""
        if self.has == ABSENT:
            return None
        if isinstance(ours, bool) or self.has in {"true", "false"}:
            return self.has == "true"
        if self.has.lstrip("-").isdecimal() and not isinstance(ours, str):
            return int(self.has)
        return self.has


def difference_in(text: str) -> Difference | None:
    """The difference that a refusal (406) tells of, in the words of any version; None if it tells none."""
    found = _INEQUIVALENT.search(text)
    if found is None:
        return None
    return Difference(
        found["kind"], found["name"], found["argument"], _plain(found["has"]), _plain(found["wants"])
    )


def _plain(value: str) -> str:
    quoted = re.search(r"'([^']*)'", value)
    return ABSENT if quoted is None else quoted[1]


def redeliveries(headers: Mapping[str, Any] | None, redelivered: bool | None) -> int:
    """How often the broker handed a message out before, given its headers and its ``redelivered`` flag."""
    counts = [(headers or {}).get(name) for name in ("x-delivery-count", "x-acquired-count")]
    known = [count for count in counts if isinstance(count, int)]
    return max(known) if known else int(bool(redelivered))
