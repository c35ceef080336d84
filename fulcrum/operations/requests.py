"""What does somebody ask for: which messages or workflows, what to do to them, how fast, who wants it?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID, uuid4, uuid5

from fulcrum.commands.parking import Filter
from fulcrum.errors import Rejected

_ROOT = UUID("2c7cf1f4-6a3e-5d80-9a52-8f0d3c5b7e11")


@dataclass(frozen=True, slots=True)
class WorkflowFilter:
    """Which workflows: all that is given must hold.

    ``step`` is one that they wait for; ``older_than`` is seconds since they started.
    """

    status: str | None = None
    step: str | None = None
    definition: str | None = None
    tenant: str | None = None
    older_than: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """An operation as it is asked for: on parked messages, or with ``workflows`` on those.

    ``rate`` is items a second, ``canary`` how many go first and must not fail, ``stop_ratio`` the share
    of failures beyond which it stops by itself, and ``arguments`` what only its kind knows.
    """

    kind: str
    actor: str
    reason: str
    ids: Sequence[str] = ()
    filter: Filter = field(default_factory=Filter)
    limit: int | None = None
    rate: float | None = None
    canary: int = 0
    stop_ratio: float | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    workflows: WorkflowFilter | None = None

    def check(self) -> None:
        """Rejected when nobody asks, for no reason, or for everything without saying so."""
        for name, value in (("actor", self.actor), ("reason", self.reason)):
            if not value.strip():
                raise Rejected(f"{name} is empty: say who decides this and why")
        if self.workflows == WorkflowFilter() and not self.ids:
            raise Rejected("the selection is empty: say which workflows, by ids or by a filter")

    def selection(self) -> dict[str, Any]:
        """The selection as JSON."""
        chosen = {
            name: value for name, value in asdict(self.workflows or self.filter).items() if value is not None
        }
        for name in ("since", "until"):
            if name in chosen:
                chosen[name] = chosen[name].isoformat()
        return {**({"ids": list(self.ids)} if self.ids else {}), **chosen}

    def fingerprint(self) -> bytes:
        """SHA-256 of what is asked for: equal for equal requests."""
        told = {
            "kind": self.kind, "actor": self.actor, "reason": self.reason, "selection": self.selection(),
            "limit": self.limit, "rate": self.rate, "canary": self.canary, "stop_ratio": self.stop_ratio,
            "arguments": dict(self.arguments),
        }  # fmt: skip
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).digest()


def operation_id(key: str | None) -> str:
    """The id of the operation asked for under an idempotency key; a new one without a key."""
    return str(uuid4() if key is None else uuid5(_ROOT, key))


def asked_id(operation: str, workflow_id: str) -> str:
    """The id under which an operation asks a workflow: the same however often it asks."""
    return str(uuid5(UUID(operation), f"workflow/{workflow_id}"))


def edited_id(operation: str, parked_id: str) -> str:
    """The id under which an operation sends a message that it edited: the same however often it is sent."""
    return str(uuid5(UUID(operation), parked_id))
