"""Every error that Fulcrum raises on purpose, and what is done about each branch.

::

    FulcrumError
    ├── Retryable          try again later; nothing is wrong with the message
    │   ├── Unavailable        a server or the outside world did not answer
    │   └── OutcomeUnknown     it was asked and did not say whether it did it: query before retrying
    ├── Rejected           the request is wrong and stays wrong; tell the sender
    │   ├── NotFound
    │   ├── Forbidden
    │   └── Conflict
    ├── Corrupt            bytes or a message that no reader can use: park it
    └── Misconfigured      this process must not start

A business refusal (a declined card, missing stock) is no error: it is an event.
"""

from __future__ import annotations


class FulcrumError(Exception):
    """Something went wrong in Fulcrum."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class Retryable(FulcrumError):
    """The same work may succeed later."""


class Unavailable(Retryable):
    """A server did not answer in time."""


class OutcomeUnknown(Retryable):
    """It was asked to act and did not answer, so it may have acted."""


class Rejected(FulcrumError):
    """The request is wrong and repeating it will not help."""


class NotFound(Rejected):
    """No such thing."""


class Forbidden(Rejected):
    """It is not allowed, or switched off."""


class Conflict(Rejected):
    """The request contradicts what is already there."""


class Corrupt(FulcrumError):
    """The bytes cannot be read as any message known here."""


class Misconfigured(FulcrumError):
    """The configuration or the environment does not allow a start."""
