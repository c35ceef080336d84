"""Who keeps Fulcrum's roles alive on one machine?

Each role is a process of its own (``python -m fulcrum run ROLE``) on a free port. One that dies is started
again on the same port, after a pause that doubles from 0.2 s to 10 s and is short again after 30 s alive.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fulcrum.localstack.home import free_port
from fulcrum.localstack.process import StackError, last_lines

#: Called with the role's name and one line of what it wrote.
Log = Callable[[str, str], None]

FIRST_PAUSE, LONGEST_PAUSE, LONG_ENOUGH = 0.05, 10.0, 30.0
_TICK = 0.05
#: A role that dies this often before it was ever ready will not become ready.
_HOPELESS = 4


def next_pause(last: float, lived: float) -> float:
    """Seconds to wait before a role is started again: ``last`` is the pause before (0: none yet)."""
    if last == 0 or lived > LONG_ENOUGH:
        return FIRST_PAUSE
    return min(last * 2, LONGEST_PAUSE)


@dataclass
class RoleProcess:
    """One supervised role. ``wanted``: it should run; ``restarts``: how often it was started again."""

    name: str
    role: str
    port: int
    env: dict[str, str]
    log: Path
    wanted: bool = False
    restarts: int = 0
    ready: bool = False
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _began: float = 0.0
    _pause: float = 0.0
    _due: float | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """None while it is down."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    def answers(self) -> bool:
        """Whether ``/readyz`` says yes."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False


def role_command(role: str) -> list[str]:
    """The program of a role."""
    return [sys.executable, "-m", "fulcrum", "run", role]


class Supervisor:
    """Starts roles, watches them, starts them again, stops them.

    One thread starts and watches all of them: the kernel ends a role when the thread that started it is gone,
    so that roles never outlive a supervisor that was killed.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        log: Log | None,
        log_dir: Path,
        command: Callable[[str], list[str]] = role_command,
        grace: float = 10.0,
    ) -> None:
        self._env = {**os.environ, **env}
        self._log = log
        self._log_dir = log_dir
        self._command = command
        self._grace = grace
        self._roles: dict[str, RoleProcess] = {}
        self._given: list[int] = []
        self._orders: queue.SimpleQueue[tuple[Callable[[], None], Future[None]]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        log_dir.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    # What others ask of it

    def start(
        self,
        role: str,
        *,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> RoleProcess:
        """Start ``role``; under the same ``name`` it keeps its port over a stop. ``port``: its first one."""
        name = name or role
        known = self._roles.get(name)
        if known is not None and known.wanted:
            raise StackError(f"role {name!r} runs already")
        port = known.port if known else port or self.free_port()
        mine = {**self._env, **(env or {}), "FULCRUM_HTTP_PORT": str(port), "PYTHONUNBUFFERED": "1"}
        process = RoleProcess(name, role, port, mine, self._log_dir / f"{name}.log", wanted=True)
        self._roles[name] = process
        self._order(lambda: self._spawn(process))
        return process

    def free_port(self) -> int:
        """A port that no role has, and that is given to nobody else."""
        port = free_port(avoid=[*self._given, *(other.port for other in self._roles.values())])
        self._given.append(port)
        return port

    def wait_ready(self, within: float) -> None:
        """Return when every started role is ready. StackError names those that are not, with their log."""
        deadline = time.monotonic() + within
        while True:
            late = [process for process in list(self._roles.values()) if process.wanted and not process.ready]
            for process in late:
                process.ready = process.pid is not None and process.answers()
            late = [process for process in late if not process.ready]
            if not late:
                return
            hopeless = [process for process in late if process.restarts >= _HOPELESS]
            if hopeless or time.monotonic() > deadline:
                process = (hopeless or late)[0]
                why = f"died {process.restarts} times" if hopeless else f"was not ready within {within:g} s"
                raise StackError(f"role {process.name} {why}\n{last_lines(process.log)}")
            time.sleep(_TICK)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a role; one that dies of it is started again."""
        process = self._roles[name]
        pid = process.pid
        if pid is None:
            raise StackError(f"role {name!r} does not run")
        process.ready = False
        os.kill(pid, number)

    def stop(self, name: str | None = None) -> None:
        """Stop one role (``start`` brings it back), or all of them and the supervisor itself."""
        if name is not None:
            process = self._roles[name]
            self._order(lambda: self._end([process]))
            return
        if self._stopping.is_set():
            return
        self._order(lambda: self._end(list(self._roles.values())))
        self._stopping.set()
        self._thread.join()

    def url(self, name: str) -> str:
        return self._roles[name].url

    def processes(self) -> dict[str, int]:
        """The pid of every role that is up, by name."""
        return {name: pid for name, process in self._roles.items() if (pid := process.pid) is not None}

    @property
    def roles(self) -> Mapping[str, RoleProcess]:
        return self._roles

    # The one thread

    def _order(self, act: Callable[[], None]) -> None:
        """Have the watching thread do ``act`` and return when it is done."""
        if self._stopping.is_set():
            raise StackError("this supervisor was stopped")
        done: Future[None] = Future()
        self._orders.put((act, done))
        done.result()

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                act, done = self._orders.get(timeout=_TICK)
            except queue.Empty:
                pass
            else:
                try:
                    act()
                except BaseException as error:
                    done.set_exception(error)
                else:
                    done.set_result(None)
            for process in list(self._roles.values()):
                self._tend(process)

    def _tend(self, process: RoleProcess) -> None:
        """Notice a death, and start again when its pause is over."""
        now = time.monotonic()
        if process._due is not None:
            if now >= process._due:
                process.restarts += 1
                self._spawn(process)
            return
        if process._child is None or process._child.poll() is None:
            return
        process._pause = next_pause(process._pause, lived=now - process._began)
        self._tell(
            process, f"ended with {_ending(process._child.returncode)}; again in {process._pause:.2f} s"
        )
        process.ready, process._child = False, None
        process._due = now + process._pause

    def _spawn(self, process: RoleProcess) -> None:
        process._due = None
        process._began = time.monotonic()
        setpriv = shutil.which("setpriv")
        leash = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
        argv = [*leash, *self._command(process.role)]
        with process.log.open("ab") as file:
            process._child = subprocess.Popen(
                argv,
                env=process.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if self._log else file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if process._child.stdout is not None:
            threading.Thread(target=self._copy, args=(process, process._child.stdout), daemon=True).start()

    def _copy(self, process: RoleProcess, lines: IO[bytes]) -> None:
        """Hand a role's lines to the log file and to whoever listens, until it closes them."""
        with lines, process.log.open("ab", buffering=0) as file:
            for line in lines:
                file.write(line)
                if self._log is not None:
                    self._log(process.name, line.decode(errors="replace").rstrip())

    def _tell(self, process: RoleProcess, line: str) -> None:
        with process.log.open("a") as file:
            file.write(f"supervisor: {line}\n")
        if self._log is not None:
            self._log(process.name, f"supervisor: {line}")

    def _end(self, processes: list[RoleProcess]) -> None:
        """TERM to all at once, KILL to those that are left when the grace is over."""
        children = []
        for process in processes:
            process.wanted, process._due, process.ready = False, None, False
            if process._child is not None and process._child.poll() is None:
                children.append(process._child)
                process._child.terminate()
            process._child = None
        deadline = time.monotonic() + self._grace
        for child in children:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
