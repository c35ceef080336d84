"""When is the payment provider left alone, and when is it tried again?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from pybreaker import STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker, CircuitBreakerError, CircuitBreakerListener

from fulcrum.errors import Unavailable
from fulcrum.telemetry.metrics import psp_breaker_open

log = structlog.get_logger()

_SHOWN = {STATE_OPEN: 1.0, STATE_HALF_OPEN: 0.5}


class LeftAlone(Unavailable):
    """The payment provider failed too often and is left alone for a while."""


class Breaker:
    """Opens after ``failures`` failed calls in a row, for ``seconds``; then one call tries, and decides.

    A call fails when it raises. What the provider answered, a refusal too, is no failure: raise that outside
    of ``watching``.
    """

    def __init__(self, failures: int, seconds: float) -> None:
        self._seconds = seconds
        self._trying = False
        self._breaker = CircuitBreaker(
            fail_max=failures,
            reset_timeout=seconds,
            # Who is cancelled has learned nothing about the provider.
            exclude=[asyncio.CancelledError],
            listeners=[_Watched()],
            # The call that opens it must still say what happened to it.
            throw_new_error_on_trip=False,
        )
        psp_breaker_open.set(0.0)

    @property
    def open(self) -> bool:
        """Whether the provider is left alone, or was until its time was over and nobody has tried since."""
        return bool(self._breaker.current_state == STATE_OPEN)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Make a call inside. LeftAlone, and no call, while the provider is left alone.

        The library holds no lock while the call is under way, so the inside may wait.
        """
        # While one call tries the provider, the others go on leaving it alone.
        if self._trying:
            raise self._left_alone()
        first = self._breaker.current_state != "closed"
        self._trying = first
        try:
            with self._breaker.calling():
                yield
        except CircuitBreakerError as error:
            raise self._left_alone() from error
        finally:
            if first:
                self._trying = False

    def _left_alone(self) -> LeftAlone:
        return LeftAlone(
            f"The payment provider failed too often and is left alone for {self._seconds:g} s "
            "(psp_breaker_seconds)"
        )


class _Watched(CircuitBreakerListener):
    """Says and shows each change."""

    def state_change(self, cb: CircuitBreaker, old_state: object, new_state: object) -> None:
        """One line a change, and the gauge."""
        state = str(getattr(new_state, "name", new_state))
        psp_breaker_open.set(_SHOWN.get(state, 0.0))
        tell: Callable[..., object] = log.warning if state == STATE_OPEN else log.info
        tell(f"psp.breaker_{state.replace('-', '_')}", failures=cb.fail_counter, seconds=cb.reset_timeout)
