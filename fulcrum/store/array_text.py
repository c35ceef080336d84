"""How does a list of values travel as one text, such as ``{"a","b"}``, that Postgres reads as an array?

The driver would send ``ARRAY['a', 'b', ...]``, which it quotes and Postgres parses value by value: for a
batch of some hundred rows that is most of the work on either side.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Cast, Text, bindparam, cast
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import (
    JSON,
    Boolean,
    DateTime,
    Integer,
    LargeBinary,
    String,
    TypeDecorator,
    TypeEngine,
    Uuid,
)

Values = Sequence[Any]


def array_of(name: str, kind: TypeEngine[Any]) -> Cast[Sequence[Any]]:
    """The place called ``name`` for a list of values of ``kind``. TypeError for a kind that is not known."""
    return cast(bindparam(name, type_=_ArrayText(kind)), ARRAY(kind, dimensions=1))


class _ArrayText(TypeDecorator[Sequence[Any]]):
    """A list as the text of an array."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: TypeEngine[Any]) -> None:
        super().__init__()
        self.kind = kind
        self._text = _text_of(kind)

    def process_bind_param(self, value: Sequence[Any] | None, dialect: Any) -> str | None:
        return None if value is None else self._text(value)


def _text_of(kind: TypeEngine[Any]) -> Callable[[Values], str]:
    if isinstance(kind, JSON):
        return _json(null="NULL" if kind.none_as_null else "null")
    if isinstance(kind, Boolean):
        return lambda values: _plain(values, lambda value: "t" if value else "f")
    if isinstance(kind, Integer):
        return lambda values: _plain(values, str)
    if isinstance(kind, DateTime):
        return lambda values: _plain(values, _time)
    if isinstance(kind, LargeBinary):
        # A backslash stands for itself only behind another one.
        return lambda values: _plain(values, lambda value: f'"\\\\x{bytes(value).hex()}"')
    if isinstance(kind, String | Uuid):
        return _texts
    raise TypeError(f"a list of {kind} does not travel as an array; add it to fulcrum/store/array_text.py")


def _plain(values: Values, text: Callable[[Any], str]) -> str:
    """Of values whose text needs no quotes, or has them."""
    return "{" + ",".join(["NULL" if value is None else text(value) for value in values]) + "}"


@lru_cache(maxsize=64)  # the rows of a batch have one time
def _time(value: datetime) -> str:
    return f'"{value.isoformat()}"'


def _texts(values: Values) -> str:
    if None not in values:
        joined = '","'.join(values)
        # Hardly ever is there anything to escape, and one look at all of them is cheaper than many.
        if "\\" not in joined and joined.count('"') == 2 * (len(values) - 1):
            return f'{{"{joined}"}}'
    return _plain(values, _quoted)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _json(null: str) -> Callable[[Values], str]:
    return lambda values: (
        "{" + ",".join([null if value is None else _quoted(json.dumps(value)) for value in values]) + "}"
    )
