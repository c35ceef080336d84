"""Does the local stack recognise its own processes, keep its ports, and say what failed?"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from eventually import eventually

from fulcrum.localstack import Stack, StackError, process
from fulcrum.localstack.account import Account
from fulcrum.localstack.home import Home, free_port, is_free
from fulcrum.localstack.install import install
from fulcrum.localstack.process import Process, spawn, stat, wait_ready

ME = Account("me", os.getuid(), os.getgid(), dedicated=False)
SLEEP = "import time; time.sleep(60)"
FAMILY = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
)
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True);" + SLEEP


LEADERLESS = (
    "import ctypes, socket, threading, time; held = socket.create_server(('127.0.0.1', {port}));"
    "threading.Thread(target=time.sleep, args=(60,)).start(); ctypes.CDLL(None).pthread_exit(None)"
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home whose servers would run as this user."""
    found = Home(tmp_path / "home", tmp_path / "dist", ME)
    found.lay()
    return found


@pytest.fixture
def started(home: Home) -> Iterator[dict[str, Process]]:
    """Every process that a test started through ``run``; killed in the end."""
    found: dict[str, Process] = {}
    yield found
    for one in found.values():
        one.stop(0)


def run(home: Home, started: dict[str, Process], script: str) -> Process:
    """A Python program started like a server."""
    found = spawn(
        [sys.executable, "-c", script],
        programs=[os.path.basename(os.path.realpath(sys.executable))],
        folder=home.lay_data("server"),
        env={},
        log=home.log("server"),
        record=home.record("server"),
        account=ME,
    )
    started[script] = found
    return found


def test_started_process_is_recognised_later(home: Home, started: dict[str, Process]) -> None:
    """What was started is found alive again from its record alone."""
    found = run(home, started, SLEEP)
    again = process.recorded(home.record("server"))
    assert again is not None
    assert (again.pid, again.alive, again.members()) == (found.pid, True, [found.pid])


def test_reused_pid_is_never_touched(home: Home, started: dict[str, Process]) -> None:
    """A process that has the pid but another start time is not ours: neither seen, nor signalled."""
    other = run(home, started, SLEEP)
    ours = replace(other, started=other.started - 1, folder="/nowhere")
    assert not ours.alive
    assert ours.members() == []
    ours.send(signal.SIGKILL)
    ours.stop(0)
    assert other.alive


def test_children_of_a_dead_leader_are_ended(home: Home, started: dict[str, Process]) -> None:
    """Stopping ends the whole family, even when its head is already dead."""
    leader = run(home, started, FAMILY)
    eventually(lambda: not leader.alive and len(leader.members()) == 1, within=5, state=leader.members)
    leader.stop(1)
    assert leader.members() == []


def test_a_process_lives_as_long_as_its_last_thread(home: Home, started: dict[str, Process]) -> None:
    """A zombie leader whose other thread holds a port is not gone yet; once killed, the port is free."""
    port = free_port()
    one = run(home, started, LEADERLESS.format(port=port))
    state = Path(f"/proc/{one.pid}/stat")
    eventually(lambda: state.read_text().rpartition(")")[2].split()[0] == "Z", within=10)

    assert one.alive
    assert one.members() == [one.pid]
    assert not is_free(port)
    one.kill(signal.SIGKILL)
    assert one.members() == []
    assert is_free(port)


def test_stop_kills_what_ignores_the_request(home: Home, started: dict[str, Process]) -> None:
    """A server that ignores TERM is killed when its grace is over."""
    stubborn = run(home, started, STUBBORN)
    eventually(lambda: "up" in home.log("server").read_text(), within=5)
    stubborn.stop(0.1)
    assert stubborn.members() == []


def test_dead_server_is_told_with_its_log(home: Home, started: dict[str, Process]) -> None:
    """A server that ends before it serves is an error that shows the end of its log and where the rest is."""
    dead = run(home, started, "raise SystemExit('data folder has wrong ownership')")
    with pytest.raises(StackError) as caught:
        wait_ready(
            "postgres", dead, lambda: 1 / 0, within=5, log=home.log("server"), cancelled=threading.Event()
        )
    assert "postgres ended before it was ready" in str(caught.value)
    assert "  | data folder has wrong ownership" in str(caught.value)
    assert str(home.log("server")) in str(caught.value)


def test_slow_server_is_told_with_its_reason(home: Home, started: dict[str, Process]) -> None:
    """A server that lives but never serves is an error with the last answer and the time it was given."""
    slow = run(home, started, SLEEP)
    with pytest.raises(StackError, match=r"kafka was not ready within 0.1 s \(ZeroDivisionError"):
        wait_ready(
            "kafka", slow, lambda: 1 / 0, within=0.1, log=home.log("server"), cancelled=threading.Event()
        )


def test_program_is_ended_when_given_up(home: Home) -> None:
    """A preparation that is given up leaves no process."""
    cancelled, log = threading.Event(), home.log("setup")
    threading.Timer(0.3, cancelled.set).start()
    with pytest.raises(StackError, match="given up"):
        process.run(
            "setup",
            [sys.executable, "-c", f"import os; print(os.getpid(), flush=True); {SLEEP}"],
            log=log,
            cancelled=cancelled,
        )
    assert stat(int(log.read_text())) is None


def test_ports_are_remembered(home: Home) -> None:
    """Ports differ, are free, and are the same the next time."""
    ports = home.choose_ports(["kafka", "redis"])
    assert len(set(ports.values())) == 2
    assert all(is_free(port) for port in ports.values())
    assert home.choose_ports(["kafka", "redis"]) == ports == home.ports()


def test_taken_port_is_replaced(home: Home) -> None:
    """Only a port that somebody else took is chosen anew."""
    ports = home.choose_ports(["kafka", "redis"])
    again = home.choose_ports(["kafka", "redis"], taken=["redis"])
    assert again["kafka"] == ports["kafka"]
    assert again["redis"] != ports["redis"]


def test_port_in_use_is_not_free() -> None:
    """A port on which somebody listens is not offered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_free(server.getsockname()[1])
    assert is_free(free_port())


def test_unreachable_home_names_the_remedy(tmp_path: Path) -> None:
    """A FULCRUM_HOME that the servers' user cannot reach is refused with what to do."""
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o700)
    nobody = Account("nobody", 65534, 65534, dedicated=os.getuid() == 0)
    if not nobody.dedicated:
        shut.chmod(0o000)
    with pytest.raises((StackError, PermissionError), match=r"FULCRUM_HOME=|Permission denied"):
        Home(shut / "home", tmp_path / "dist", nobody).lay()
    shut.chmod(0o700)


def test_missing_packages_are_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the Debian packages the error lists them and the two ways to get them."""
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(StackError, match=r"redis-server, maven; run scripts/bootstrap.sh .* apt-get install"):
        install(home, ["redis", "kafka"], print, threading.Event())


def test_env_before_up_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack that was never up has no addresses, and says how to get them."""
    for name in [name for name in os.environ if name.startswith("FULCRUM_")]:
        monkeypatch.delenv(name)
    with pytest.raises(StackError, match="never up; run `fulcrum stack up`"):
        Stack(tmp_path).env()


def test_servers_of_the_environment_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When every server is given, ``up`` starts none and hands their addresses on."""
    given = {
        "FULCRUM_KAFKA_BOOTSTRAP": "broker:9092",
        "FULCRUM_RABBITMQ_URL": "amqp://rabbit/",
        "FULCRUM_POSTGRES_DSN": "postgresql://fulcrum@database/fulcrum",
        "FULCRUM_REDIS_URL": "redis://cache/0",
        "FULCRUM_REGISTRY_URL": "http://registry/apis/ccompat/v7",
    }
    monkeypatch.delenv("FULCRUM_RABBITMQ_MANAGEMENT_URL", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    mine = Stack(tmp_path / "home")
    mine.home = Home(tmp_path / "home", tmp_path / "dist", ME)
    assert mine.up(print) == given
    assert list((tmp_path / "home" / "run").iterdir()) == []


def test_own_process_is_no_zombie(home: Home, started: dict[str, Process]) -> None:
    """A server that ended while its starter lives counts as ended."""
    short = run(home, started, "pass")
    eventually(lambda: not short.alive, within=5)
    assert short.members() == []
    assert subprocess.run(["ps", "-o", "stat=", "-p", str(short.pid)], check=False).returncode == 1
