"""How is a server's process started, recognised later, waited for and ended?

A server is started detached, as the leader of its own session, and remembered by pid *and* start time: a pid
that the kernel gave to somebody else since then is never signalled.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fulcrum.errors import FulcrumError
from fulcrum.localstack.account import Account


class StackError(FulcrumError):
    """A server of the local stack did not start, or the stack cannot be used as asked."""


class Cancelled(StackError):
    """Another server failed, or the person pressed Ctrl-C."""


@dataclass(frozen=True)
class Stat:
    """What /proc/<pid>/stat tells: the session and the start time in clock ticks since boot."""

    state: str
    parent: int
    session: int
    started: int


def stat(pid: int) -> Stat | None:
    """The process ``pid``, or None when there is none (a zombie counts as none once its threads are gone)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold anything; the fields follow its last parenthesis.
    fields = text.rpartition(")")[2].split()
    # A killed leader is a zombie while its other threads still end, and with them its open ports.
    if fields[0] in "ZX" and int(fields[17]) <= 1:
        return None
    return Stat(fields[0], int(fields[1]), int(fields[3]), int(fields[19]))


def all_pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


#: Children of this very process, kept so that they are reaped when they die.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Process:
    """A started server. ``programs`` and ``folder`` find those of its processes that left its session."""

    pid: int
    started: int
    programs: Sequence[str]
    folder: str

    @property
    def alive(self) -> bool:
        """Whether the leader itself still runs."""
        self._reap()
        now = stat(self.pid)
        return now is not None and now.started == self.started

    def members(self) -> list[int]:
        """Every living process of this server, the leader included."""
        self._reap()
        leader = stat(self.pid)
        reused = leader is not None and leader.started != self.started
        found = []
        for pid in all_pids():
            now = stat(pid)
            if now is None:
                continue
            if (now.session == self.pid and not reused) or self._strayed(pid):
                found.append(pid)
        return found

    def _strayed(self, pid: int) -> bool:
        """Postgres and Erlang give their children sessions of their own; program and folder tell whose."""
        try:
            program = os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
            return program in self.programs and os.readlink(f"/proc/{pid}/cwd") == self.folder
        except OSError:
            return False

    def _reap(self) -> None:
        child = _children.get(self.pid)
        if child is not None and child.poll() is not None:
            del _children[self.pid]

    def send(self, number: int) -> None:
        """Send ``number`` to the leader, if it is still the process that was started."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self, grace: float, number: int = signal.SIGTERM) -> None:
        """Ask the leader to end, wait ``grace`` seconds, then kill whatever is left of the server."""
        if grace:
            self.send(number)
        if not grace or not _wait(lambda: not self.members(), grace):
            for pid in self.members():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            _wait(lambda: not self.members(), 10)

    def kill(self, number: int) -> None:
        """Send ``number`` to the leader; after SIGKILL, wait until every process of the server is gone."""
        self.send(number)
        if number == signal.SIGKILL and not _wait(lambda: not self.members(), 5):
            self.stop(0)


def _wait(condition: Callable[[], bool], within: float) -> bool:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def recorded(record: Path) -> Process | None:
    """What was started last under ``record``, whether or not it still runs."""
    try:
        return Process(**json.loads(record.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def spawn(
    argv: Sequence[str],
    *,
    programs: Sequence[str],
    folder: Path,
    env: Mapping[str, str],
    log: Path,
    record: Path,
    account: Account,
) -> Process:
    """Start ``argv`` in ``folder`` as ``account``, output appended to ``log``, noted in ``record``."""
    with log.open("ab") as out:
        child = subprocess.Popen(
            argv,
            cwd=folder,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
            **account.run_as,
        )
    _children[child.pid] = child
    now = stat(child.pid)
    process = Process(child.pid, now.started if now else 0, list(programs), str(folder.resolve()))
    draft = record.with_suffix(".new")
    draft.write_text(json.dumps(asdict(process)))
    draft.replace(record)
    return process


def wait_ready(
    name: str,
    process: Process,
    probe: Callable[[], object],
    *,
    within: float,
    log: Path,
    cancelled: threading.Event,
) -> None:
    """Call ``probe`` until it does not raise. StackError, with the end of ``log``, when it never does."""
    deadline = time.monotonic() + within
    while True:
        try:
            probe()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        else:
            return
        if not process.alive:
            raise StackError(f"{name} ended before it was ready\n{last_lines(log)}")
        if time.monotonic() > deadline:
            raise StackError(f"{name} was not ready within {within:g} s ({reason})\n{last_lines(log)}")
        if cancelled.wait(0.05):
            raise Cancelled(f"{name}: start given up")


def run(
    what: str,
    argv: Sequence[str],
    *,
    log: Path,
    cancelled: threading.Event,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
    account: Account | None = None,
) -> None:
    """Run ``argv`` to its end. StackError, with the end of ``log``, when it fails."""
    with log.open("ab") as out:
        child = subprocess.Popen(
            argv,
            cwd=folder,
            env=dict(env) if env is not None else None,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077 if account else 0o022,
            **(account.run_as if account else {}),
        )
    try:
        while True:
            try:
                code = child.wait(0.1)
                break
            except subprocess.TimeoutExpired:
                if cancelled.is_set():
                    raise Cancelled(f"{what}: given up") from None
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    if code:
        raise StackError(f"{what} failed with exit code {code}\n{last_lines(log)}")


def last_lines(log: Path, count: int = 15) -> str:
    """The end of ``log``, indented, and where the rest is."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        lines = []
    return "\n".join([*(f"  | {line}" for line in lines), f"The whole log: {log}"])
