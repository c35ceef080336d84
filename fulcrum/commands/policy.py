"""How often is each command tried, and with which delays? A row for each that differs from the default."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fulcrum.commands.retry import RetryPolicy
from fulcrum.saga.messages import (
    COMMANDS,
    CancelDelivery,
    CancelPackJob,
    Command,
    ReleaseStock,
    VoidPayment,
)

#: Six delays, up to an hour: about 75 minutes until a command is parked.
DEFAULT = RetryPolicy(attempts=7)
#: What is not undone keeps money or stock from others, so it is tried for four hours more.
_UNDO = RetryPolicy(attempts=11)

POLICIES: Mapping[type[Command], RetryPolicy] = MappingProxyType(
    {
        VoidPayment: _UNDO,
        ReleaseStock: _UNDO,
        CancelPackJob: _UNDO,
        CancelDelivery: _UNDO,
    }
)


def policy_of(command: Command | None) -> RetryPolicy:
    """The row of ``command``; the default without one, and for a message that could not be read."""
    return DEFAULT if command is None else POLICIES.get(type(command), DEFAULT)


def tries(retry_limit: int | None) -> dict[str, int]:
    """How often a command of each type is tried at most; ``retry_limit`` retries in place of its row."""
    return {
        kind.__name__: POLICIES.get(kind, DEFAULT).attempts if retry_limit is None else retry_limit + 1
        for kind in COMMANDS
    }
