"""How often is each command tried, and with which delays? One row per command, or the import fails."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fulcrum.commands.retry import RetryPolicy
from fulcrum.saga.messages import (
    COMMANDS,
    AuthorizePayment,
    Command,
    QueryPayment,
    ReceiveStock,
    ReleaseStock,
    ReserveStock,
    VoidPayment,
)

#: Six delays, up to an hour: about 75 minutes until a command is parked.
DEFAULT = RetryPolicy(attempts=7)
#: What is not undone keeps money or stock from others, so it is tried for four hours more.
_UNDO = RetryPolicy(attempts=11)

POLICIES: Mapping[type[Command], RetryPolicy] = MappingProxyType(
    {
        AuthorizePayment: DEFAULT,
        QueryPayment: DEFAULT,
        VoidPayment: _UNDO,
        ReserveStock: DEFAULT,
        ReleaseStock: _UNDO,
        ReceiveStock: DEFAULT,
    }
)


def policy_of(command: Command | None) -> RetryPolicy:
    """The row of ``command``; the default for a message that could not be read as one."""
    return DEFAULT if command is None else POLICIES[type(command)]


def _missing() -> list[str]:
    return [command.__name__ for command in COMMANDS if command not in POLICIES]


if _missing():
    raise ImportError(
        f"no retry policy for {', '.join(_missing())}: add a row to fulcrum/commands/policy.py, with DEFAULT "
        "if it is like the others"
    )
