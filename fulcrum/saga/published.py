"""Which definitions did a release publish, and what did each row of them say? Only ever added to.

A release adds the lines that ``fulcrum definition check`` prints for a definition that is not here. The
fingerprints are those of ``saga.fingerprint``.
"""

from __future__ import annotations

from collections.abc import Mapping

from fulcrum.errors import Misconfigured
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.fingerprint import Fingerprints, changed

PUBLISHED: Mapping[str, Fingerprints] = {
    "fulfillment.v1": {
        "authorize_payment": "a48de590360402fa307917feb9e32cb3",
        "reserve_stock": "ad260f0aaf78a6dcdcb61afa4b6cd2f7",
    },
    "reserve_first.v1": {
        "reserve_stock": "ad260f0aaf78a6dcdcb61afa4b6cd2f7",
        "authorize_payment": "a48de590360402fa307917feb9e32cb3",
    },
    "reserve_first.v2": {
        "reserve_stock": "56e1a754e293a15dda4ff8456840469a",
        "authorize_payment": "a48de590360402fa307917feb9e32cb3",
        "confirm_stock": "72f1f1e4131befb4c80e88ecdb94d8e0",
    },
}


def require_published() -> None:
    """Misconfigured when a published definition is not what it was: live runs would change their rules."""
    if faults := changed(DEFINITIONS, PUBLISHED):
        raise Misconfigured("; ".join(faults))
