"""When is a server of the outside world left alone, and when is it tried again?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from prometheus_client import Gauge
from pybreaker import STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker, CircuitBreakerError, CircuitBreakerListener

from fulcrum.errors import Unavailable
from fulcrum.telemetry.metrics import psp_breaker_open

log = structlog.get_logger()

_SPOKEN = {"psp": "payment provider"}
_SHOWN = {STATE_OPEN: 1.0, STATE_HALF_OPEN: 0.5}


class LeftAlone(Unavailable):
    """It failed too often and is left alone for a while."""


class Breaker:
    """Opens after ``failures`` failed calls in a row, for ``seconds``; then one call tries, and decides.

    A call fails when it raises. What the server answered, a refusal too, is no failure: raise that outside
    of ``watching``. ``name`` is its name in settings and logs, ``gauge`` shows whether it is left alone.
    """

    def __init__(
        self, failures: int, seconds: float, name: str = "psp", gauge: Gauge = psp_breaker_open
    ) -> None:
        self._seconds = seconds
        self._name = name
        self._trying = False
        self._breaker = CircuitBreaker(
            fail_max=failures,
            reset_timeout=seconds,
            # Who is cancelled has learned nothing about the server.
            exclude=[asyncio.CancelledError],
            listeners=[_Watched(name, gauge)],
            # The call that opens it must still say what happened to it.
            throw_new_error_on_trip=False,
        )
        gauge.set(0.0)

    @property
    def open(self) -> bool:
        """Whether the server is left alone, or was until its time was over and nobody has tried since."""
        return bool(self._breaker.current_state == STATE_OPEN)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Make a call inside. LeftAlone, and no call, while the server is left alone.

        The library holds no lock while the call is under way, so the inside may wait.
        """
        # While one call tries the server, the others go on leaving it alone.
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
            f"The {_SPOKEN.get(self._name, self._name)} failed too often and is left alone for "
            f"{self._seconds:g} s ({self._name}_breaker_seconds)"
        )


class _Watched(CircuitBreakerListener):
    """Says and shows each change."""

    def __init__(self, name: str, gauge: Gauge) -> None:
        self._name = name
        self._gauge = gauge

    def state_change(self, cb: CircuitBreaker, old_state: object, new_state: object) -> None:
        """One line a change, and the gauge."""
        state = str(getattr(new_state, "name", new_state))
        self._gauge.set(_SHOWN.get(state, 0.0))
        tell: Callable[..., object] = log.warning if state == STATE_OPEN else log.info
        tell(
            f"{self._name}.breaker_{state.replace('-', '_')}",
            failures=cb.fail_counter,
            seconds=cb.reset_timeout,
        )
