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
    "fulfillment.v2": {
        "authorize_payment": "d0840fce692bd38eeae411c2efcc83bd",
        "reserve_stock": "ad260f0aaf78a6dcdcb61afa4b6cd2f7",
        "pack_order": "39c0a3df4bc7cc94a0cfd2c01e7f873a",
        "capture_payment": "62a5fdc69b8b21f2bd953a3ac86b823a",
        "create_delivery": "6eb6a8c8e9e5b26e9836ab1ed53102a8",
        "hand_over": "30bd78d39aa491e09dffc0840faad6d5",
        "consume_stock": "8c231ea3919aa1b8709f1fa88ebc8816",
        "deliver": "ea023607e0c59a99fe7d10a91c1e8ecf",
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
