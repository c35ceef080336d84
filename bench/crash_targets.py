"""How is a role or a server killed, paused and brought back? By pid, and only what this run has started."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from bench.crash_schedule import SECOND, SERVERS, Deed, Way
from fulcrum.crashpoint import VARIABLE
from fulcrum.errors import Unavailable
from fulcrum.localstack import Running, Stack

_READY_WITHIN = 60.0
_REACHED_WITHIN = 30.0
_LOOK = 0.02
#: The instance under which the second worker keeps its place in the consumer group.
_INSTANCE = "2"


class Targets:
    """The roles of one system and the servers below it."""

    def __init__(self, stack: Stack, running: Running) -> None:
        self._stack = stack
        self._roles = running.supervisor

    async def hit(self, deed: Deed) -> float:
        """Do it; returns the moment (perf_counter) from which on the system is left to itself.

        That is the death of a role, which is started again at once, and otherwise the moment at which the
        target is started again or continued.
        """
        if deed.target in SERVERS:
            return await asyncio.to_thread(self._hit_server, deed)
        if deed.way in (Way.JOIN, Way.LEAVE):
            return await self._second(deed.way)
        if deed.way in (Way.PAUSE, Way.LONG_PAUSE):
            self._roles.kill(deed.target, signal.SIGSTOP)
            try:
                await asyncio.sleep(deed.seconds)
            finally:
                self._roles.kill(deed.target, signal.SIGCONT)
            return time.perf_counter()
        if deed.point is not None:
            return await self._at_point(deed)
        self._roles.kill(deed.target, signal.SIGTERM if deed.way is Way.TERM else signal.SIGKILL)
        at = time.perf_counter()
        if deed.way is Way.TWICE:
            await self._next_life(deed.target)
            await asyncio.sleep(deed.seconds)
            self._roles.kill(deed.target, signal.SIGKILL)
            at = time.perf_counter()
        return at

    async def ready(self) -> None:
        """Wait until every role that should run is ready; Unavailable names those that are not."""
        late: list[str] = []

        async def all_ready() -> bool:
            roles = [role for role in self._roles.roles.values() if role.wanted]
            answers = await asyncio.gather(*(asyncio.to_thread(role.answers) for role in roles))
            late[:] = [role.name for role, answer in zip(roles, answers, strict=True) if not answer]
            return not late

        try:
            async with asyncio.timeout(_READY_WITHIN):
                while not await all_ready():  # noqa: ASYNC110 - processes give no event
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise Unavailable(f"not ready {_READY_WITHIN:g} s after: {', '.join(late)}") from None

    # --- servers ----------------------------------------------------------------------------------

    def _hit_server(self, deed: Deed) -> float:
        server = self._stack.server(deed.target)
        if deed.way is Way.PAUSE:
            # Postgres works in many processes: all of them must stand still.
            pids = server.members()
            _signal(pids, signal.SIGSTOP)
            try:
                time.sleep(deed.seconds)
            finally:
                _signal(pids, signal.SIGCONT)
            return time.perf_counter()
        if deed.way is Way.TERM:
            server.stop()
        else:
            server.kill()
        time.sleep(deed.seconds)
        at = time.perf_counter()
        server.start()
        return at

    # --- roles ------------------------------------------------------------------------------------

    async def _second(self, way: Way) -> float:
        if way is Way.LEAVE:
            await asyncio.to_thread(self._roles.stop, SECOND)
            return time.perf_counter()
        first = self._roles.roles["agents"]
        env = {**first.env, "FULCRUM_INSTANCE": _INSTANCE}
        at = time.perf_counter()
        await asyncio.to_thread(self._roles.start, "agents", name=SECOND, env=env)
        return at

    async def _at_point(self, deed: Deed) -> float:
        """Start the role anew so that it dies at the point; a second worker joins where that is needed."""
        role = self._roles.roles[deed.target]
        lives = role.restarts + 1
        role.env[VARIABLE] = f"{deed.point}:{deed.nth}"
        try:
            self._roles.kill(deed.target, signal.SIGTERM)
            await self._next_life(deed.target)
        finally:
            del role.env[VARIABLE]
        if deed.point == "partitions.revoked":
            await self.ready()
            await self._second(Way.JOIN)
        await _until(
            lambda: role.restarts > lives or role.pid is None,
            _REACHED_WITHIN,
            f"{deed.target} did not come to {deed.point} for the {deed.nth}. time",
        )
        return time.perf_counter()

    async def _next_life(self, name: str) -> None:
        """Wait until the supervisor has started the role again."""
        role = self._roles.roles[name]
        restarts = role.restarts
        # It is counted a moment before it is there.
        await _until(
            lambda: role.restarts > restarts and role.pid is not None,
            _READY_WITHIN,
            f"{name} was not started again",
        )


async def _until(condition: Callable[[], bool], within: float, otherwise: str) -> None:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise Unavailable(f"{otherwise} within {within:g} s")
        await asyncio.sleep(_LOOK)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
