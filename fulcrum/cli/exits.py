"""How does a command tell a script how it ended? One exit code an outcome, the same for every command."""

from __future__ import annotations

from enum import IntEnum

from fulcrum.errors import Conflict, Forbidden, FulcrumError, NotFound, Unavailable


class Exit(IntEnum):
    """What an exit code means."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    FORBIDDEN = 4
    CONFLICT = 5
    PARTIAL = 6
    UNREACHABLE = 7
    TIMED_OUT = 8
    FOUND = 10
    INTERRUPTED = 130


MEANINGS: dict[Exit, str] = {
    Exit.OK: "done",
    Exit.FAILED: "failed, refused, or ended otherwise than hoped for",
    Exit.USAGE: "wrong usage, or a question that nobody answered with yes",
    Exit.NOT_FOUND: "there is no such thing",
    Exit.FORBIDDEN: "not allowed, or switched off",
    Exit.CONFLICT: "contradicts what is there: state, key, or a refused request",
    Exit.PARTIAL: "done for some and failed for others",
    Exit.UNREACHABLE: "a server or the API does not answer, or is not ready",
    Exit.TIMED_OUT: "what was waited for did not come in time",
    Exit.FOUND: "a check found problems",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
}

#: Most special first.
_BY_ERROR: tuple[tuple[type[FulcrumError], Exit], ...] = (
    (NotFound, Exit.NOT_FOUND),
    (Forbidden, Exit.FORBIDDEN),
    (Conflict, Exit.CONFLICT),
    (Unavailable, Exit.UNREACHABLE),
    (FulcrumError, Exit.FAILED),
)


def of_error(error: FulcrumError) -> Exit:
    """The code of a command that ended with ``error``."""
    return next(code for kind, code in _BY_ERROR if isinstance(error, kind))


def of_status(status: int) -> Exit:
    """The code of an HTTP answer with ``status``."""
    if status < 400:
        return Exit.OK
    special = {401: Exit.FORBIDDEN, 403: Exit.FORBIDDEN, 404: Exit.NOT_FOUND, 410: Exit.NOT_FOUND}
    special |= {409: Exit.CONFLICT, 412: Exit.CONFLICT}
    return special.get(status, Exit.UNREACHABLE if status >= 500 else Exit.FAILED)


def table() -> str:
    """The codes and their meanings, one a line."""
    return "\n".join(f"{code:>4}  {meaning}" for code, meaning in MEANINGS.items())
