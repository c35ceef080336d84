"""A list as the text of a Postgres array."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import BigInteger, Boolean, Float, Text, select
from sqlalchemy.dialects.postgresql import BYTEA, JSONB
from sqlalchemy.types import TypeEngine

from fulcrum.store.array_text import array_of
from fulcrum.store.relations import time_column, uuid_column
from fulcrum.store.statements import compiled

ID = "8fdcbaae-26af-4143-b523-76f6c84640f4"


@pytest.mark.parametrize(
    ("kind", "values", "text"),
    [
        (Text(), [], "{}"),
        (Text(), ["a", "b c"], '{"a","b c"}'),
        (Text(), ["", "NULL", "x,y", "{z}"], '{"","NULL","x,y","{z}"}'),
        (Text(), ['say "no"', "back\\slash"], '{"say \\"no\\"","back\\\\slash"}'),
        (Text(), ["a", None], '{"a",NULL}'),
        (Text(), ['","'], '{"\\",\\""}'),
        (uuid_column(), [ID, ID], f'{{"{ID}","{ID}"}}'),
        (BigInteger(), [1, -(2**40), None], "{1,-1099511627776,NULL}"),
        (Boolean(), [True, False], "{t,f}"),
        (BYTEA(), [b"", b"\x00\xff"], '{"\\\\x","\\\\x00ff"}'),
        (time_column(), [datetime(2026, 3, 1, tzinfo=UTC)], '{"2026-03-01T00:00:00+00:00"}'),
        (JSONB(), [{"a": 'b"'}, None], '{"{\\"a\\": \\"b\\\\\\"\\"}",null}'),
        (JSONB(none_as_null=True), [[1], None], '{"[1]",NULL}'),
    ],
)
def test_values_are_written_as_postgres_reads_them(
    kind: TypeEngine[Any], values: list[object], text: str
) -> None:
    """Quotes, backslashes and what is absent survive."""
    sql, bound = compiled(select(array_of("given", kind)), {"given": values})
    assert bound == {"given": text}
    assert "CAST(%(given)s AS " in sql


def test_unknown_kind_is_refused_where_the_statement_is_made() -> None:
    """Not when the first row is written."""
    with pytest.raises(TypeError, match="array_text"):
        array_of("given", Float())
