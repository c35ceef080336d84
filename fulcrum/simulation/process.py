"""What dies together, and what is left of it?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fulcrum.simulation.environment import Environment

_RESTART = 3.0  # seconds, on average
_SAFE = 5.0  # seconds, on average, that it lives at least
_MOST = 20  # crashes: they must not grow with the backlog that they make


class Process:
    """A process: its memory is gone after a crash, and what it had planned never happens.

    ``life`` counts its starts. Subclasses say in ``_lost`` what memory is, in ``_started`` how it resumes.
    """

    def __init__(self, env: Environment, name: str) -> None:
        self.env = env
        self.name = name
        self.life = 1
        self.up = True
        self._safe_until = 0.0

    def crashes(self, point: str) -> bool:
        """Whether the process dies here; the caller must then stop at once."""
        if not self.at_risk():
            return False
        self.crash(point)
        return True

    def at_risk(self) -> bool:
        """Whether the process is to die in what it does now."""
        return self.life <= _MOST and self.env.now >= self._safe_until and self.env.strikes("crash")

    def crash(self, point: str) -> None:
        """Die at ``point``, and start again a little later."""
        self.life += 1
        self.up = False
        self.env.note(None, self.name, f"dies {point}")
        self._lost()
        self.env.after(0.2 + self.env.about(_RESTART), self._start)

    def later(self, delay: float, action: Callable[..., None], *args: Any) -> None:
        """Plan ``action`` for this life of the process."""
        self.env.after(delay, self._if_alive, self.life, action, args)

    def _if_alive(self, life: int, action: Callable[..., None], args: tuple[Any, ...]) -> None:
        if life == self.life:
            action(*args)

    def _start(self) -> None:
        self.up = True
        self._safe_until = self.env.now + self.env.about(_SAFE)
        self.env.note(None, self.name, "starts again")
        self._started()

    def _lost(self) -> None:
        """Forget what was in memory only."""

    def _started(self) -> None:
        """Resume from what is durable."""
