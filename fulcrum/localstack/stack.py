"""How do the servers come up together, and go down without a trace?

Long, because up, down and wipe share one lock and one view of what runs.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fulcrum.localstack.home import Home, Say, find_home, is_free
from fulcrum.localstack.install import install
from fulcrum.localstack.kafka import Kafka
from fulcrum.localstack.postgres import Postgres
from fulcrum.localstack.process import Cancelled, StackError
from fulcrum.localstack.rabbitmq import Epmd, RabbitMQ
from fulcrum.localstack.redis import Redis
from fulcrum.localstack.registry import Registry
from fulcrum.localstack.server import Server

_CLASSES: tuple[type[Server], ...] = (Postgres, Epmd, RabbitMQ, Kafka, Redis, Registry)
_PORT_NAMES = [name for kind in _CLASSES for name in kind.port_names]
_TRIES = 3


@dataclass(frozen=True)
class ServerStatus:
    """One line of ``fulcrum stack status``. ``pid`` is None when it does not run or is not ours."""

    name: str
    pid: int | None
    address: str
    ready: bool
    log: Path | None


class ServerHandle:
    """One running server, for tests that kill it and bring it back."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def pid(self) -> int:
        current = self._server.process
        if current is None or not current.alive:
            raise StackError(f"{self._server.name} does not run")
        return current.pid

    def members(self) -> list[int]:
        """The pids of all its processes."""
        current = self._server.process
        return current.members() if current is not None else []

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; after SIGKILL, return when every process of the server is gone."""
        current = self._server.process
        if current is not None:
            current.kill(number)

    def start(self) -> None:
        """Start it on the same port and data, and return when it serves."""
        self._server.start(lambda line: None, threading.Event())

    def stop(self) -> None:
        """End it in good order."""
        self._server.stop()


class Stack:
    """The servers of one home. Every call is repeatable; two calls that change things wait for each other."""

    def __init__(self, home: Path | None = None, dist: Path | None = None) -> None:
        self.home: Home = find_home(home, dist)

    # What is there

    def env(self) -> dict[str, str]:
        """The variables by which clients find the servers. StackError before the first ``up``."""
        given = self._given()
        found = {kind.variable: given[kind.name] for kind in _CLASSES if kind.variable and kind.name in given}
        management = os.environ.get("FULCRUM_RABBITMQ_MANAGEMENT_URL")
        if "rabbitmq" in given and management:
            found["FULCRUM_RABBITMQ_MANAGEMENT_URL"] = management
        for server in self._servers().values():
            found.update(server.variables())
        return found

    def status(self) -> list[ServerStatus]:
        """Every server: ours by its process, a given one by its address."""
        found = [
            ServerStatus(f"{name} (given)", None, address, True, None)
            for name, address in self._given().items()
        ]
        if not self.home.ports():
            return found
        for server in self._servers().values():
            current = server.process
            alive = current is not None and current.alive
            found.append(
                ServerStatus(
                    server.name,
                    current.pid if current and alive else None,
                    server.address,
                    alive and _answers(server.probe),
                    server.log,
                )
            )
        return found

    def server(self, name: str) -> ServerHandle:
        """The handle of one of ours: kafka, rabbitmq, postgres, redis or registry."""
        servers = self._servers()
        if name not in servers:
            raise StackError(f"server {name!r}: this stack runs {', '.join(servers)}")
        return ServerHandle(servers[name])

    @property
    def running(self) -> bool:
        """Whether any server of this home runs."""
        return bool(self.home.ports()) and any(server.running for server in self._own().values())

    # Up, down, away

    def up(self, say: Say) -> dict[str, str]:
        """Start what does not run and return ``env()`` when all of it serves.

        What fails or is interrupted takes down with it everything this call has started. Another program may
        take a port between our choice and the server's start: then it begins again with others.
        """
        began, tries = time.monotonic(), _TRIES
        self.home.lay()
        with self._lock(say):
            cancelled = threading.Event()
            wanted = [kind.name for kind in _CLASSES if kind.name not in self._absent()]
            install(self.home, wanted, say, cancelled)
            while tries:
                tries -= 1
                self._choose_ports(say)
                servers = self._servers()
                idle = [server for server in servers.values() if not server.running]
                if idle:
                    user = f" (servers run as user {self.home.account.name})"
                    say(f"stack      {self.home.path}{user if self.home.account.dedicated else ''}")
                try:
                    self._start(servers, say if idle else lambda line: None, cancelled)
                    break
                except BaseException as error:
                    cancelled.set()
                    with undisturbed():
                        self._stop(idle)
                    if not (tries and isinstance(error, StackError) and self._lost_ports()):
                        raise
                    cancelled = threading.Event()
            if idle:
                say(f"stack      up in {time.monotonic() - began:.1f} s")
        return self.env()

    def down(self, say: Say, *, gracefully: bool = True) -> None:
        """Stop every server of this home and whatever it started; kill them when not ``gracefully``."""
        if not self.home.ports():
            say(f"stack      {self.home.path} was never up")
            return
        with self._lock(say):
            stopped = self._stop(self._own().values(), gracefully=gracefully)
        say(f"stack      stopped {', '.join(stopped)}" if stopped else "stack      nothing was running")

    def wipe(self, say: Say, *, downloads: bool = False) -> None:
        """``down`` without grace, then remove data, logs and ports, and the downloads when asked to."""
        self.down(say, gracefully=False)
        if not self.home.path.exists():
            return
        with self._lock(say):
            for name in ("data", "logs", "run"):
                shutil.rmtree(self.home.path / name, ignore_errors=True)
            (self.home.path / "stack.json").unlink(missing_ok=True)
        if downloads:
            # What FULCRUM_DIST names is shared with others.
            shutil.rmtree(self.home.path / "dist", ignore_errors=True)
        say(f"stack      data{' and downloads' if downloads else ''} in {self.home.path} removed")

    # How

    def _own(self) -> dict[str, Server]:
        """Every server that this home could run, by name."""
        ports = self.home.ports()
        if not ports:
            raise StackError(f"the stack in {self.home.path} was never up; run `fulcrum stack up`")
        postgres = Postgres(self.home, ports)
        dsn = self._given_raw().get("postgres", postgres.address)
        rest = [kind(self.home, ports) for kind in (Epmd, RabbitMQ, Kafka, Redis)]
        return {server.name: server for server in (postgres, *rest, Registry(self.home, ports, dsn))}

    def _given_raw(self) -> dict[str, str]:
        found = {kind.name: os.environ.get(kind.variable, "") for kind in _CLASSES if kind.variable}
        return {name: value for name, value in found.items() if value}

    def _given(self) -> dict[str, str]:
        """Servers named by the environment, by name. An address of this very stack, as ``fulcrum stack env``
        prints it, is no other server."""
        given = self._given_raw()
        if not self.home.ports():
            return given
        own = self._own()
        return {name: value for name, value in given.items() if value != own[name].address}

    def _absent(self) -> set[str]:
        """Names of the servers that this stack does not start."""
        given = set(self._given())
        return given | ({"epmd"} if "rabbitmq" in given else set())

    def _servers(self) -> dict[str, Server]:
        """The servers that this stack starts."""
        absent = self._absent()
        if len(absent) == len(_CLASSES):
            return {}
        return {name: server for name, server in self._own().items() if name not in absent}

    def _choose_ports(self, say: Say) -> None:
        """Remember a port for every name; a port that somebody else took meanwhile is given up."""
        self.home.choose_ports(_PORT_NAMES)
        if lost := self._lost_ports():
            say(f"stack      taken by others, so choosing other ports: {', '.join(lost)}")
            self.home.choose_ports(_PORT_NAMES, taken=lost)

    def _lost_ports(self) -> list[str]:
        """The names of ports that a server of ours would need and somebody else has."""
        ports = self.home.ports()
        idle: list[str] = []
        for server in self._own().values():
            current = server.process
            if current is None or not current.members():
                idle += server.port_names
        return [name for name in idle if not is_free(ports[name])]

    def _start(self, servers: dict[str, Server], say: Say, cancelled: threading.Event) -> None:
        """Start all side by side, each after what it needs; the first failure is the one that is told."""
        tasks: dict[str, Future[None]] = {}

        def start(server: Server) -> None:
            for name in server.needs:
                if name in tasks:
                    tasks[name].result()
            server.start(say, cancelled)

        with ThreadPoolExecutor(max_workers=max(1, len(servers))) as pool:
            try:
                # In the order of _CLASSES: what is needed is submitted before what needs it.
                for name, server in servers.items():
                    tasks[name] = pool.submit(start, server)
                wait(tasks.values(), return_when=FIRST_EXCEPTION)
            finally:
                failed = any(task.done() and task.exception() for task in tasks.values())
                if failed or not all(task.done() for task in tasks.values()):
                    cancelled.set()
        errors = [error for task in tasks.values() if (error := task.exception())]
        if errors:
            raise next((error for error in errors if not isinstance(error, Cancelled)), errors[0])

    def _stop(self, servers: Iterable[Server], *, gracefully: bool = True) -> list[str]:
        """Stop side by side, what needs another before that other; the names of those that ran."""
        left = {server.name: server for server in servers}
        stopped = []
        while left:
            needed = {name for server in left.values() for name in server.needs}
            now = [server for name, server in left.items() if name not in needed]
            with ThreadPoolExecutor(max_workers=len(now)) as pool:
                ran = list(pool.map(lambda server: server.stop(gracefully=gracefully), now))
            stopped += [server.name for server, did in zip(now, ran, strict=True) if did]
            for server in now:
                del left[server.name]
        return stopped

    @contextmanager
    def _lock(self, say: Say) -> Iterator[None]:
        """Keep others that start or stop this home's servers away."""
        with (self.home.path / "lock").open("a") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("stack      waiting for another command that starts or stops this stack")
                fcntl.flock(held, fcntl.LOCK_EX)
            yield


def _answers(probe: Callable[[], None]) -> bool:
    try:
        probe()
    except Exception:
        return False
    return True


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C for a moment: a second one must not break off the cleaning up after the first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
