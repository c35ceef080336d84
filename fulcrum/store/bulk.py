"""How many rows go in one statement whose text stays the same, so that it is compiled once.

``INSERT ... SELECT FROM unnest(arrays)`` takes each column as one array. The same rows serve an
``UPDATE ... FROM``. A column that is an array itself cannot travel this way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Table, column, func, select
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.sql.expression import TableValuedAlias
from sqlalchemy.types import TypeEngine

from fulcrum.store.array_text import array_of


def rows_of(
    table: Table, columns: Sequence[str], name: str = "given", **more: TypeEngine[Any]
) -> TableValuedAlias:
    """Rows with ``columns``, typed as those of ``table``, and ``more`` of other types; fill them by
    ``arrays``."""
    kinds = {**{each: table.c[each].type for each in columns}, **more}
    places = [array_of(f"{each}_array", kind) for each, kind in kinds.items()]
    typed = [column(each, kind) for each, kind in kinds.items()]
    return func.unnest(*places).table_valued(*typed, name=name).render_derived()


def insert_rows(table: Table, columns: Sequence[str], order_by: Sequence[str] = ()) -> Insert:
    """Insert rows given by ``arrays``, in the order of ``order_by``; add ON CONFLICT, RETURNING as needed."""
    given = rows_of(table, columns)
    chosen = select(*[given.c[each] for each in columns]).order_by(*[given.c[each] for each in order_by])
    return insert(table).from_select(list(columns), chosen)


def arrays(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The parameters for ``rows``."""
    kept = list(rows)
    return {f"{each}_array": [row[each] for row in kept] for each in columns}
