"""What does a definition say, and is it still what was published? Pure.

A run finishes under the definition that it began with, so a published one never changes: another behaviour
is another version. A fingerprint is taken over everything that a row says to a run. What it leaves at its
default it does not say, so that a new kind of column changes no row from before; what it says only to readers
may change. ``published`` keeps the fingerprints.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import timedelta
from enum import Enum
from hashlib import sha256
from typing import Any

from fulcrum.saga.definitions import Definition, Step

#: Fingerprints by the name of the step, in the order of the definition.
Fingerprints = Mapping[str, str]
_DIGITS = 32
#: Columns of a row that no run goes by.
_TO_READERS = frozenset({"milestone"})


def said(value: Any) -> Any:
    """``value`` as JSON: a type by its name, a function by its module and name, times in seconds."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, Mapping):
        return {str(name): said(part) for name, part in value.items()}
    if isinstance(value, Iterable):
        return [said(part) for part in value]
    if is_dataclass(value):
        given = {each.name: (each, getattr(value, each.name)) for each in fields(value)}
        return {name: said(part) for name, (each, part) in given.items() if part != _default(each)}
    if "<" in value.__qualname__:
        raise TypeError(f"{value.__module__}.{value.__qualname__} is no name; give the function one")
    return f"{value.__module__}.{value.__qualname__}"


def of_step(step: Step) -> str:
    """The fingerprint of one row."""
    to_runs = {name: part for name, part in said(step).items() if name not in _TO_READERS}
    text = json.dumps(to_runs, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:_DIGITS]


def of_definition(definition: Definition) -> str:
    """The fingerprint of a whole definition."""
    rows = json.dumps([definition.name, *(of_step(step) for step in definition.steps)])
    return sha256(rows.encode()).hexdigest()[:_DIGITS]


def of_steps(definition: Definition) -> dict[str, str]:
    """The fingerprint of each row by its name."""
    return {step.name: of_step(step) for step in definition.steps}


def changed(definitions: Mapping[str, Definition], published: Mapping[str, Fingerprints]) -> list[str]:
    """What differs from what was published, each with its remedy. Nothing is said of what is new."""
    found = []
    for name, rows in published.items():
        if name not in definitions:
            found.append(f"{name} is published and gone; restore it, for runs may be under way in it")
        elif what := _difference(of_steps(definitions[name]), rows):
            found.append(f"{name} is published and {what}; restore it, and add a version for the change")
    return found


def unpublished(definitions: Mapping[str, Definition], published: Mapping[str, Fingerprints]) -> list[str]:
    """The names of definitions that no release has published."""
    return [name for name in definitions if name not in published]


def _difference(now: Fingerprints, then: Fingerprints) -> str | None:
    """The first row in which the two differ; None when they are the same."""
    for name, before in then.items():
        if name not in now:
            return f"has lost step {name}"
        if now[name] != before:
            return f"differs in step {name}"
    if added := [name for name in now if name not in then]:
        return f"has a new step {added[0]}"
    return None if list(now) == list(then) else "has its steps in another order"


def _default(column: Field[Any]) -> Any:
    if column.default_factory is not MISSING:
        return column.default_factory()
    return column.default
