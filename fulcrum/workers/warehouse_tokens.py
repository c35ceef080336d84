"""Which SKU makes the simulated warehouse floor do what? Pure.

What stands before the first ``-`` of a SKU is a script for picking it:

=========== ======================================================================================
``short1-`` one unit less than is ordered can be picked
``short-``  none can be picked
``later1-`` as ``short1-`` at first; all are there once the late goods have come
``later-``  as ``short-`` at first; all are there once the late goods have come
``broken-`` one unit breaks while it is picked, and there is no other in its place
``slow-``   all are there, and picking them takes long
=========== ======================================================================================

Of every other SKU there is enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

#: So many times the usual pace: how long a slow line takes, and when late goods come.
LONG = 30
_SCRIPTS = frozenset({"short1", "short", "later1", "later", "broken", "slow"})


@dataclass(frozen=True, slots=True)
class Found:
    """What the picker finds: units that are ``there``, and units that are ``damaged`` and of no use."""

    there: int
    damaged: int = 0


def find(sku: str, quantity: int, waited: timedelta, pace: timedelta) -> Found:
    """What is found of ``quantity`` units, so long after the order came in."""
    late = waited < pace * LONG
    match _script(sku):
        case "short1":
            return Found(quantity - 1)
        case "short":
            return Found(0)
        case "later1" if late:
            return Found(quantity - 1)
        case "later" if late:
            return Found(0)
        case "broken":
            return Found(quantity - 1, damaged=1)
    return Found(quantity)


def takes(sku: str, pace: timedelta) -> timedelta:
    """How long a line of ``sku`` takes."""
    return pace * LONG if _script(sku) == "slow" else pace


def _script(sku: str) -> str | None:
    prefix, dash, _ = sku.partition("-")
    return prefix if dash and prefix in _SCRIPTS else None
