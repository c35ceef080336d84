"""How every id is computed: nothing is drawn at random, so a repeat names the same thing."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha1
from uuid import UUID, uuid5

#: The two highest bits of the ninth byte are 10 in every UUID of this kind.
_VARIANTS = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}
_ROOT = UUID("7d9a1f52-6a0e-5c57-9b0e-3f2f9d5f6c11")


def intent_id(tenant: str, idempotency_key: str) -> str:
    """One intent per tenant and ``Idempotency-Key``."""
    return str(uuid5(_ROOT, f"intent/{len(tenant)}/{tenant}/{idempotency_key}"))


def workflow_id(intent: str) -> str:
    """One workflow per intent."""
    return str(uuid5(UUID(intent), "workflow"))


def command_id(workflow: str, step: str, command: str, attempt: int) -> str:
    """One command per workflow, step, command type and logical attempt."""
    return _named(workflow, f"{step}/{command}/{attempt}")


def cancel_id(workflow: str, idempotency_key: str | None, actor: str, reason: str) -> str:
    """One cancellation per workflow and ``Idempotency-Key``; without a key, per who asked and why."""
    named = f"said/{len(actor)}/{actor}/{reason}" if idempotency_key is None else f"key/{idempotency_key}"
    return str(uuid5(UUID(workflow), f"cancel/{named}"))


def request_id(workflow: str, idempotency_key: str) -> str:
    """One request of an operator per workflow and ``Idempotency-Key``, whatever is asked for."""
    return str(uuid5(UUID(workflow), f"request/{idempotency_key}"))


def query_id(command: str, number: int) -> str:
    """One query per command and number of the query."""
    return str(uuid5(UUID(command), f"query/{number}"))


def asked_query_id(command: str, version: int) -> str:
    """One query per command and transition in which an operator asked for it."""
    return str(uuid5(UUID(command), f"query/asked/{version}"))


def intercept_id(workflow: str, step: str, version: int) -> str:
    """One intercept per workflow, step and transition in which it was asked for."""
    return str(uuid5(UUID(workflow), f"{step}/intercept/{version}"))


def receipt_id(sku: str, idempotency_key: str) -> str:
    """One stock receipt per SKU and ``Idempotency-Key``."""
    return str(uuid5(_ROOT, f"receipt/{len(sku)}/{sku}/{idempotency_key}"))


def event_id(cause: str, event: str) -> str:
    """One event of a type per cause: a command's id, or the id of the intent."""
    return _named(cause, event)


def timer_id(workflow: str, timer: str, step: str, due: datetime) -> str:
    """One event per workflow, kind of timer, step and time, however often it fires."""
    return str(uuid5(UUID(workflow), f"timer/{timer}/{step}/{due.isoformat()}"))


def decision_id(workflow: str, version: int) -> str:
    """One decision per workflow and version."""
    return str(uuid5(UUID(workflow), f"decision/{version}"))


def _named(namespace: str, name: str) -> str:
    """What ``uuid5`` says, in a third of its time: every message of every workflow has one of these."""
    digest = sha1(bytes.fromhex(namespace.replace("-", "")) + name.encode(), usedforsecurity=False)
    text = digest.hexdigest()
    variant = _VARIANTS[text[16]]
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"
