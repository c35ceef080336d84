"""Does the stock of each SKU equal what its ledger and its reservations add up to, and what moved it?

Read by people, beside the service: each question is one statement, so it sees one moment.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select

from fulcrum.workers.inventory_relations import LEDGER, RESERVATION_LINES, RESERVATIONS, STOCK

#: By figure: the column of a reservation's line, and the states of a reservation in which it counts.
_COUNTED: Mapping[str, tuple[ColumnElement[int], tuple[str, ...]]] = {
    "reserved": (RESERVATION_LINES.c.quantity, ("held", "confirmed")),
    "consumed": (RESERVATION_LINES.c.consumed, ("consumed", "written_off")),
}
_FIGURES = ("available", "reserved", "consumed")


@dataclass(frozen=True, slots=True)
class Drift:
    """A figure of one SKU that differs: what the stock says, and what ``source`` adds up to, in units.

    ``source`` is ledger or reservations; None: it knows nothing of the SKU, or the stock does not.
    """

    sku: str
    figure: str
    source: str
    stock: int | None
    counted: int | None

    @property
    def difference(self) -> int:
        """How many units the stock has more than it should."""
        return (self.stock or 0) - (self.counted or 0)


def drifts(connection: Connection, skus: Collection[str] = ()) -> tuple[int, list[Drift]]:
    """How many SKUs there are, and each figure that differs; of ``skus`` only, when any are given.

    Reads the ledger whole when none is given: seconds for some million entries.
    """
    looked_at = connection.execute(_only(select(func.count()).select_from(STOCK), STOCK.c.sku, skus))
    found = []
    for row in connection.execute(_against_ledger(skus)).mappings():
        for figure in _FIGURES:
            stock, counted = row[figure], row[f"ledger_{figure}"]
            if stock is None or counted is None or stock != counted:
                found.append(Drift(row["sku"], figure, "ledger", stock, _whole(counted)))
    for figure in _COUNTED:
        found += (
            Drift(row["sku"], figure, "reservations", row[figure], _whole(row["quantity"]))
            for row in connection.execute(_against_reservations(figure, skus)).mappings()
        )
    return int(looked_at.scalar_one()), found


def entries(connection: Connection, sku: str, limit: int) -> list[dict[str, Any]]:
    """The newest ``limit`` entries of the ledger for ``sku``, newest first."""
    newest = select(LEDGER).where(LEDGER.c.sku == sku).order_by(LEDGER.c.at.desc(), LEDGER.c.command_id)
    return [dict(row) for row in connection.execute(newest.limit(limit)).mappings()]


def _only(statement: Select[Any], column: ColumnElement[str], skus: Collection[str]) -> Select[Any]:
    return statement.where(column.in_(sorted(skus))) if skus else statement


def _against_ledger(skus: Collection[str]) -> Select[Any]:
    sums = [func.sum(LEDGER.c[figure]).label(f"ledger_{figure}") for figure in _FIGURES]
    ledger = _only(select(LEDGER.c.sku, *sums), LEDGER.c.sku, skus).group_by(LEDGER.c.sku).subquery()
    stock = _only(select(STOCK), STOCK.c.sku, skus).subquery()
    sku = func.coalesce(stock.c.sku, ledger.c.sku).label("sku")
    differs = [stock.c[each].is_distinct_from(ledger.c[f"ledger_{each}"]) for each in _FIGURES]
    return (
        select(sku, *(stock.c[each] for each in _FIGURES), *(ledger.c[f"ledger_{each}"] for each in _FIGURES))
        .select_from(stock.join(ledger, stock.c.sku == ledger.c.sku, full=True))
        .where(differs[0] | differs[1] | differs[2])
        .order_by(sku)
    )


def _against_reservations(figure: str, skus: Collection[str]) -> Select[Any]:
    column, states = _COUNTED[figure]
    lines = RESERVATION_LINES.join(
        RESERVATIONS, RESERVATION_LINES.c.workflow_id == RESERVATIONS.c.workflow_id
    )
    held = (
        _only(
            select(RESERVATION_LINES.c.sku, func.sum(column).label("quantity")),
            RESERVATION_LINES.c.sku,
            skus,
        )
        .select_from(lines)
        .where(RESERVATIONS.c.state.in_(states))
        .group_by(RESERVATION_LINES.c.sku)
        .subquery()
    )
    stock = _only(select(STOCK.c.sku, STOCK.c[figure]), STOCK.c.sku, skus).subquery()
    sku = func.coalesce(stock.c.sku, held.c.sku).label("sku")
    return (
        select(sku, stock.c[figure], held.c.quantity)
        .select_from(stock.join(held, stock.c.sku == held.c.sku, full=True))
        .where(func.coalesce(stock.c[figure], 0) != func.coalesce(held.c.quantity, 0))
        .order_by(sku)
    )


def _whole(counted: Any) -> int | None:
    """A sum of bigints, which Postgres gives as numeric."""
    return None if counted is None else int(counted)
