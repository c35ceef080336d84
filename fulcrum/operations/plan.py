"""What would an operation take, what not, and why not? Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: Items of one operation at most.
MOST = 100_000
BEYOND_LIMIT = "beyond the limit"
IN_ANOTHER = "in another operation"
UNKNOWN = "does not exist"
NO_BODY = "its body was deleted"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a selection comes to: ``matched = included + sum(excluded)``."""

    matched: int
    included: int
    excluded: Mapping[str, int]


def plan_of(found: Mapping[str | None, int], limit: int | None) -> Plan:
    """The plan for what was ``found``: items by the reason that keeps them out, None for none."""
    most = min(limit or MOST, MOST)
    eligible = found.get(None, 0)
    included = min(eligible, most)
    excluded = {reason: number for reason, number in found.items() if reason is not None and number}
    if eligible > included:
        excluded[BEYOND_LIMIT] = eligible - included
    return Plan(sum(found.values()), included, excluded)
