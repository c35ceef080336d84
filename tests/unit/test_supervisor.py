"""Does the supervisor keep its roles alive, and leave nothing behind? On stand-ins for the roles."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from eventually import eventually

from fulcrum.cli.roles import ROLES
from fulcrum.localstack import ROLES as SUPERVISED
from fulcrum.localstack import StackError, Supervisor
from fulcrum.localstack.process import stat
from fulcrum.localstack.supervisor import FIRST_PAUSE, LONG_ENOUGH, LONGEST_PAUSE, next_pause

#: Says that it is ready, whatever it is asked.
READY = """
import http.server, os
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *args):
        pass
print("serving", flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["FULCRUM_HTTP_PORT"])), Answer).serve_forever()
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + READY
BROKEN = "raise SystemExit('psp_timeout must be positive')"

_SCRIPTS = {"ready": READY, "stubborn": STUBBORN, "broken": BROKEN}


def stand_in(role: str) -> list[str]:
    """The program of a stand-in."""
    return [sys.executable, "-S", "-c", _SCRIPTS[role]]


@pytest.fixture
def lines() -> list[tuple[str, str]]:
    """What the roles of ``supervisor`` wrote."""
    return []


@pytest.fixture
def supervisor(tmp_path: Path, lines: list[tuple[str, str]]) -> Iterator[Supervisor]:
    """A supervisor of stand-ins, stopped in the end."""
    found = Supervisor({}, lambda role, line: lines.append((role, line)), tmp_path, stand_in, grace=0.2)
    yield found
    found.stop()


def gone(pid: int) -> Callable[[], bool]:
    """Whether the process has ended."""
    return lambda: stat(pid) is None


def test_every_role_is_supervised() -> None:
    """``fulcrum dev`` starts exactly the roles that the command line knows."""
    assert sorted(SUPERVISED) == sorted(ROLES)


def test_pause_doubles_up_to_its_limit() -> None:
    """A role that keeps dying is started again ever later, but never later than the limit."""
    pauses = [0.0]
    for _ in range(10):
        pauses.append(next_pause(pauses[-1], lived=0.1))
    assert pauses[1:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE


def test_pause_starts_over_after_a_long_life() -> None:
    """A role that lived for a while is started again at once."""
    assert next_pause(LONGEST_PAUSE, lived=LONG_ENOUGH + 1) == FIRST_PAUSE


def test_ready_role_answers_on_its_port(supervisor: Supervisor, lines: list[tuple[str, str]]) -> None:
    """A started role is given a port, is found ready on it, and its lines go to the log and the listener."""
    role = supervisor.start("ready", name="one")
    supervisor.wait_ready(5)
    assert supervisor.url("one") == f"http://127.0.0.1:{role.port}"
    assert supervisor.processes() == {"one": role.pid}
    assert ("one", "serving") in lines
    assert role.log.read_text() == "serving\n"


def test_killed_role_comes_back_on_its_port(supervisor: Supervisor) -> None:
    """A role that was killed is started again on the same port; the others are left alone."""
    one, two = supervisor.start("ready", name="one"), supervisor.start("ready", name="two")
    supervisor.wait_ready(5)
    before, port, other = one.pid, one.port, two.pid
    supervisor.kill("one", signal.SIGKILL)
    eventually(lambda: one.pid not in {None, before}, within=5, state=lambda: one)
    supervisor.wait_ready(5)
    assert (one.port, one.restarts, two.pid) == (port, 1, other)


def test_stopped_role_stays_down_until_started(supervisor: Supervisor) -> None:
    """A role stopped by name is not started again; ``start`` brings it back on its port."""
    role = supervisor.start("ready")
    supervisor.wait_ready(5)
    port = role.port
    supervisor.stop("ready")
    assert supervisor.processes() == {}
    assert supervisor.start("ready").port == port
    supervisor.wait_ready(5)


def test_running_role_is_not_started_twice(supervisor: Supervisor) -> None:
    """A second start under one name is refused."""
    supervisor.start("ready")
    with pytest.raises(StackError, match="'ready' runs already"):
        supervisor.start("ready")


def test_role_that_never_starts_is_shown(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role that keeps dying ends the wait with its name and the last lines of its log."""
    monkeypatch.setattr("fulcrum.localstack.supervisor._HOPELESS", 1)
    role = supervisor.start("broken")
    with pytest.raises(StackError) as caught:
        supervisor.wait_ready(10)
    assert "role broken died" in str(caught.value)
    assert "psp_timeout must be positive" in str(caught.value)
    assert str(role.log) in str(caught.value)


def test_stop_ends_what_ignores_the_request(supervisor: Supervisor) -> None:
    """A role that ignores TERM is killed when its grace is over."""
    role = supervisor.start("stubborn")
    supervisor.wait_ready(5)
    pid = role.pid
    assert pid is not None
    supervisor.stop()
    assert gone(pid)()


def test_roles_end_with_a_killed_supervisor(tmp_path: Path) -> None:
    """A supervisor that is killed takes its roles with it."""
    program = (
        "import sys, threading; from pathlib import Path; from fulcrum.localstack import Supervisor\n"
        f"found = Supervisor({{}}, None, Path({str(tmp_path)!r}), lambda role: {stand_in('ready')!r})\n"
        "print(found.start('ready').pid, flush=True); threading.Event().wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)()
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    eventually(gone(pid), within=5, state=lambda: stat(pid))
