"""What can be done to a parked message, in which status, and which status does it have afterwards?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of operation. A ``sends`` one publishes; the others change nothing but the status."""

    name: str
    source: str
    target: str
    sends: bool


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("replay", "parked", "replayed", sends=True),
        Kind("edit", "parked", "edited", sends=True),
        Kind("discard", "parked", "discarded", sends=False),
        Kind("restore", "discarded", "parked", sends=False),
    )
}
