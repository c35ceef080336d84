"""How does a benchmark get the servers to itself? By names of its own, which are removed when it ends."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from bench.leftovers import remove
from fulcrum.localstack import Stack
from fulcrum.localstack.home import Say
from fulcrum.localstack.postgres import create_database
from fulcrum.localstack.running import prepare
from fulcrum.localstack.supervisor import RoleProcess, Supervisor
from fulcrum.settings import Settings


@dataclass
class Alone:
    """A namespace and a database that nobody else uses.

    ``env`` is what a process needs to find them. ``keep``: leave everything as it is at the end, so that one
    can look into it.
    """

    stack: Stack
    env: Mapping[str, str]
    keep: bool = field(default=False)
    _opened: ExitStack = field(default_factory=ExitStack)
    _supervisor: Supervisor | None = None

    @property
    def namespace(self) -> str:
        return self.env["FULCRUM_NAMESPACE"]

    @property
    def logs(self) -> Path:
        """The folder with the logs of its roles."""
        return self.stack.home.path / "logs" / self.namespace

    def settings(self, **changed: object) -> Settings:
        """The settings of a process here; ``changed`` by name."""
        named = {name.removeprefix("FULCRUM_").lower(): value for name, value in self.env.items()}
        known = {name: value for name, value in named.items() if name in Settings.model_fields}
        return Settings.model_validate({**known, **changed})

    def prepare(self, say: Say) -> None:
        """Make schema, topics and subjects."""
        prepare(self.env, say, self.logs / "setup.log")

    def start(
        self, role: str, env: Mapping[str, str] | None = None, *, within: float | None = 60.0
    ) -> RoleProcess:
        """Start ``role`` as a process of its own and wait until it is ready; ``within`` None: do not wait.

        It is stopped at the end. StackError when it is not ready within so many seconds.
        """
        if self._supervisor is None:
            self._supervisor = Supervisor(self.env, None, self.logs)
            self._opened.callback(self._supervisor.stop)
        started = self._supervisor.start(role, env=env)
        if within is not None:
            self._supervisor.wait_ready(within)
        return started

    def stop(self, role: str) -> None:
        """Stop ``role``; it may be started again."""
        if self._supervisor is not None:
            self._supervisor.stop(role)

    def processes(self) -> dict[str, int]:
        """The pid of every role started here and of every server, by name."""
        servers = {status.name: status.pid for status in self.stack.status() if status.pid}
        return {**(self._supervisor.processes() if self._supervisor is not None else {}), **servers}


@contextmanager
def alone(say: Say, env: Mapping[str, str] | None = None) -> Iterator[Alone]:
    """The servers up, with a database and a namespace that are new and empty; ``env`` adds to their settings.

    At the end what was started is stopped, and what was named is removed, unless ``keep`` was set.
    """
    stack = Stack()
    was_up = stack.running
    addresses = stack.up(say)
    try:
        namespace = f"bench-{uuid4().hex[:6]}"
        database = namespace.replace("-", "_")
        dsn = urlsplit(addresses["FULCRUM_POSTGRES_DSN"])._replace(path=f"/{database}").geturl()
        own = {"FULCRUM_POSTGRES_DSN": dsn, "FULCRUM_NAMESPACE": namespace, "FULCRUM_LOG_LEVEL": "warning"}
        found = Alone(stack, {**addresses, **own, **(env or {})})
        try:
            create_database(addresses["FULCRUM_POSTGRES_DSN"], database)
            with found._opened:
                yield found
        finally:
            _leave(found, say)
    finally:
        if not was_up:
            stack.down(say)


def _leave(found: Alone, say: Say) -> None:
    if found.keep:
        say(f"left for looking into: namespace {found.namespace}, {found.env['FULCRUM_POSTGRES_DSN']}")
        return
    for what in asyncio.run(remove(found.env)):
        say(f"could not remove from {found.namespace}: {what}")
    shutil.rmtree(found.logs, ignore_errors=True)
