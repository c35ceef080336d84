"""What becomes of an order of which some lines cannot be picked in full? Pure.

The terms of a line are a promise to the customer, and the strictest line that is short decides for all:

================ =================================================================================
``cancel_order`` the whole order is refused: ``short``
``wait``         everything waits, until the order has waited long enough: ``backorder_expired`` then
``cancel_line``  the order goes without what is missing, unless that leaves nothing: ``nothing_left``
================ =================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

CANCEL_ORDER, WAIT, CANCEL_LINE = "cancel_order", "wait", "cancel_line"
#: From the strictest on.
POLICIES = (CANCEL_ORDER, WAIT, CANCEL_LINE)


@dataclass(frozen=True, slots=True)
class PackLine:
    """One line of an order: units of ``sku`` that were ordered and that are picked, and its terms."""

    sku: str
    requested: int
    picked: int = 0
    unit_minor: int = 0
    on_short: str = CANCEL_ORDER

    @property
    def short(self) -> bool:
        """Whether some of it is missing."""
        return self.picked < self.requested


@dataclass(frozen=True, slots=True)
class PackAsIs:
    """Pack what is picked."""


@dataclass(frozen=True, slots=True)
class WaitForGoods:
    """Pick again later."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Put back what is picked, and refuse the order."""

    reason: str


Verdict = PackAsIs | WaitForGoods | Refuse


def judge(lines: Iterable[PackLine], now: datetime, waits_until: datetime | None) -> Verdict:
    """What to do once every line was tried; ``waits_until`` is None when nothing was waited for yet."""
    kept: Sequence[PackLine] = tuple(lines)
    terms = {line.on_short for line in kept if line.short}
    if CANCEL_ORDER in terms:
        return Refuse("short")
    if WAIT in terms:
        expired = waits_until is not None and now >= waits_until
        return Refuse("backorder_expired") if expired else WaitForGoods()
    if not any(line.picked for line in kept):
        return Refuse("nothing_left")
    return PackAsIs()
