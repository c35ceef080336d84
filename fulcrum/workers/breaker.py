"""When is an outside service left alone, and when is it tried again?"""

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

_SHOWN = {STATE_OPEN: 1.0, STATE_HALF_OPEN: 0.5}


class LeftAlone(Unavailable):
    """An outside service failed too often and is left alone for a while."""


class Breaker:
    """Opens after ``failures`` failed calls in a row, for ``seconds``; then one call tries, and decides.

    A call fails when it raises. What the provider answered, a refusal too, is no failure: raise that outside
    of ``watching``. ``outside`` is what people call the service, ``name`` its prefix among settings and log
    events, ``shown`` the gauge that shows it.
    """

    def __init__(
        self,
        failures: int,
        seconds: float,
        outside: str = "payment provider",
        name: str = "psp",
        shown: Gauge = psp_breaker_open,
    ) -> None:
        self._seconds = seconds
        self._outside = outside
        self._name = name
        self._trying = False
        self._breaker = CircuitBreaker(
            fail_max=failures,
            reset_timeout=seconds,
            # Who is cancelled has learned nothing about the service.
            exclude=[asyncio.CancelledError],
            listeners=[_Watched(name, shown)],
            # The call that opens it must still say what happened to it.
            throw_new_error_on_trip=False,
        )
        shown.set(0.0)

    @property
    def open(self) -> bool:
        """Whether the service is left alone, or was until its time was over and nobody has tried since."""
        return bool(self._breaker.current_state == STATE_OPEN)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Make a call inside. LeftAlone, and no call, while the service is left alone.

        The library holds no lock while the call is under way, so the inside may wait.
        """
        # While one call tries the service, the others go on leaving it alone.
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
            f"The {self._outside} failed too often and is left alone for {self._seconds:g} s "
            f"({self._name}_breaker_seconds)"
        )


class _Watched(CircuitBreakerListener):
    """Says and shows each change."""

    def __init__(self, name: str, shown: Gauge) -> None:
        self._name = name
        self._shown = shown

    def state_change(self, cb: CircuitBreaker, old_state: object, new_state: object) -> None:
        """One line a change, and the gauge."""
        state = str(getattr(new_state, "name", new_state))
        self._shown.set(_SHOWN.get(state, 0.0))
        tell: Callable[..., object] = log.warning if state == STATE_OPEN else log.info
        tell(
            f"{self._name}.breaker_{state.replace('-', '_')}",
            failures=cb.fail_counter,
            seconds=cb.reset_timeout,
        )
