"""Which workflows go by what was agreed about an order beyond its lines and its amount? Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from enum import StrEnum

from fulcrum.saga.definitions import DEFINITIONS, Definition
from fulcrum.saga.messages import LineTerms


class OnShort(StrEnum):
    """What to do when a line cannot be packed in full."""

    CANCEL_LINE = "cancel_line"  #: go on without what is missing, and take less money
    WAIT = "wait"  #: wait for goods for a while, then as ``cancel_order``
    CANCEL_ORDER = "cancel_order"  #: undo the order


def keeps_terms(definition: Definition) -> bool:
    """Whether a step of ``definition`` looks at the terms of the lines.

    Such a workflow knows promises and holds too; an earlier one would take them and do nothing about them.
    """
    return any("terms" in {f.name for f in fields(step.do)} for step in definition.steps)


def keepers() -> tuple[str, ...]:
    """The names of the definitions that keep terms."""
    return tuple(name for name, definition in DEFINITIONS.items() if keeps_terms(definition))


def terms_of(agreed: Iterable[tuple[int | None, str]]) -> tuple[LineTerms, ...]:
    """The terms of lines by their unit price, if there is one, and what to do when they come short.

    None at all when nothing was agreed about any line.
    """
    terms = tuple(LineTerms(unit_minor or 0, on_short) for unit_minor, on_short in agreed)
    return () if all(each == LineTerms(0, OnShort.CANCEL_ORDER) for each in terms) else terms
