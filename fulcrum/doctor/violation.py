"""What is said of something that must not be?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: FULCRUM_* addresses and FULCRUM_NAMESPACE of the system that is looked at.
Env = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be: which check, about what, and what was seen."""

    check: str
    subject: str
    detail: str
