"""What does the stack need to know of a server, whichever it is?"""

from __future__ import annotations

import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from fulcrum.localstack import process
from fulcrum.localstack.home import Home, Say, is_free
from fulcrum.localstack.process import Process, StackError


class Server(ABC):
    """One server of the stack: how it is prepared, started, found ready and stopped."""

    name: ClassVar[str]
    #: The file names of the programs that run in the end, whatever scripts start them.
    programs: ClassVar[tuple[str, ...]]
    #: Its ports; the first is the one that clients use.
    port_names: ClassVar[tuple[str, ...]]
    #: Servers that must be ready before this one starts.
    needs: ClassVar[tuple[str, ...]] = ()
    #: The variable that, set in the environment, names a server to use in place of this one.
    variable: ClassVar[str | None] = None
    #: Seconds until it must be ready: generous, since a cold machine unpacks and compiles meanwhile.
    within: ClassVar[float] = 90.0
    stop_signal: ClassVar[int] = signal.SIGTERM
    stop_grace: ClassVar[float] = 20.0

    def __init__(self, home: Home, ports: Mapping[str, int]) -> None:
        self.home = home
        self.ports = ports
        self.folder = home.data(self.name)
        self.log = home.log(self.name)

    @property
    def port(self) -> int:
        return self.ports[self.port_names[0]]

    @property
    def address(self) -> str:
        """What clients connect to; the value of ``variable``."""
        return f"127.0.0.1:{self.port}"

    def variables(self) -> dict[str, str]:
        """What clients find it by."""
        return {self.variable: self.address} if self.variable else {}

    def prepare(self, cancelled: threading.Event) -> None:  # noqa: B027
        """Make its data folder what the program expects. Done before every start; keeps what is there."""

    @abstractmethod
    def command(self) -> tuple[list[str], dict[str, str]]:
        """The program with its arguments, and its environment."""

    @abstractmethod
    def probe(self) -> None:
        """Return when it serves; raise anything while it does not."""

    def settle(self) -> None:  # noqa: B027
        """What clients may expect of a fresh server; must be repeatable."""

    @property
    def process(self) -> Process | None:
        """What was started last, running or not."""
        return process.recorded(self.home.record(self.name))

    @property
    def running(self) -> bool:
        current = self.process
        return current is not None and current.alive

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        """A file in its data folder, owned by the servers' user."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        self.home.account.own(path)
        return path

    def start(self, say: Say, cancelled: threading.Event) -> None:
        """Start it unless it runs, and return when it serves. StackError when it does not."""
        began = time.monotonic()
        current = self.process
        if current is None or not current.alive:
            if current is not None:
                # What a killed server left behind holds its ports and its data.
                current.stop(0)
            current = self._launch(cancelled)
        process.wait_ready(
            self.name, current, self.probe, within=self.within, log=self.log, cancelled=cancelled
        )
        self.settle()
        say(f"{self.name:<10} ready on {self.address} ({time.monotonic() - began:.1f} s)")

    def _launch(self, cancelled: threading.Event) -> Process:
        if not self.folder.exists():
            self.home.lay_data(self.name)
        self.prepare(cancelled)
        if cancelled.is_set():
            raise process.Cancelled(f"{self.name}: start given up")
        for name in self.port_names:
            if not is_free(self.ports[name]):
                raise StackError(
                    f"{self.name}: port {self.ports[name]} of 127.0.0.1 is taken by a process that is not of "
                    f"this stack ({self.home.path}); `fulcrum stack up` chooses another"
                )
        argv, env = self.command()
        base = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"}
        return process.spawn(
            argv,
            programs=self.programs,
            folder=self.folder,
            env={**base, "HOME": str(self.folder), **env},
            log=self.log,
            record=self.home.record(self.name),
            account=self.home.account,
        )

    def stop(self, *, gracefully: bool = True) -> bool:
        """End it and everything it started. False when nothing ran."""
        current = self.process
        if current is None:
            return False
        ran = bool(current.members())
        if ran:
            current.stop(self.stop_grace if gracefully else 0, self.stop_signal)
        self.home.record(self.name).unlink(missing_ok=True)
        return ran
