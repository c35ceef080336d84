"""What differs between two versions of a schema, field by field, documentation included?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """One property of one place in a schema: ``field.path``, what of it, and both values as JSON text."""

    place: str
    what: str
    before: str | None
    after: str | None


def differences(before: Any, after: Any) -> list[Difference]:
    """Every property that one of them has otherwise; what both say alike is left out."""
    old, new = dict(_properties(before, "")), dict(_properties(after, ""))
    places = list(dict.fromkeys([*old, *new]))
    return [
        Difference(place, what, old.get((place, what)), new.get((place, what)))
        for place, what in places
        if old.get((place, what)) != new.get((place, what))
    ]


def _properties(node: Any, place: str) -> Iterator[tuple[tuple[str, str], str]]:
    """(place, property) with its value; a record's fields are places of their own."""
    if not isinstance(node, Mapping):
        yield (place, "type"), _text(node)
        return
    for name, value in node.items():
        if name == "fields":
            for field in value:
                yield from _properties(field, f"{place}.{field['name']}" if place else field["name"])
        elif name in ("type", "items", "values") and _nested(value):
            for branch in value if isinstance(value, list) else [value]:
                yield from _properties(branch, place)
        elif name != "name" or not place:
            yield (place, name), _text(value)


def _nested(value: Any) -> bool:
    """Whether a record lies inside, whose fields are worth places of their own."""
    branches = value if isinstance(value, list) else [value]
    return any(isinstance(branch, Mapping) and _has_record(branch) for branch in branches)


def _has_record(node: Mapping[str, Any]) -> bool:
    return "fields" in node or any(
        _nested(node[name]) for name in ("type", "items", "values") if name in node
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
