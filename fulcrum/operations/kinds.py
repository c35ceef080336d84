"""What can be done to a parked message or a workflow, and in which status is a message before and after?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fulcrum.saga.verbs import MIGRATE, Verb


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of operation. A ``sends`` one publishes; the others change nothing but the status."""

    name: str
    source: str
    target: str
    sends: bool


#: Kinds of operations on parked messages.
KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("replay", "parked", "replayed", sends=True),
        Kind("edit", "parked", "edited", sends=True),
        Kind("discard", "parked", "discarded", sends=False),
        Kind("restore", "discarded", "parked", sends=False),
    )
}

CANCEL = "cancel"
_WORKFLOW = "workflow."
MIGRATE_KIND = f"{_WORKFLOW}{MIGRATE}"
#: Kinds of operations on workflows: each asks the same of every one.
WORKFLOW_KINDS: tuple[str, ...] = tuple(f"{_WORKFLOW}{verb}" for verb in (*Verb, CANCEL, MIGRATE))


def verb_of(kind: str) -> str | None:
    """What an operation of ``kind`` asks of workflows; None when it is about parked messages."""
    return kind.removeprefix(_WORKFLOW) if kind.startswith(_WORKFLOW) else None
