"""How does everything come up on one machine: servers, schema, topics, and every role?"""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fulcrum.localstack import process
from fulcrum.localstack.home import Say
from fulcrum.localstack.stack import Stack, undisturbed
from fulcrum.localstack.supervisor import Log, RoleProcess, Supervisor

#: Those that stand for the outside world, with the setting that says where each keeps its effects, and the
#: one that says where it is. They start first, because the services must be told.
SIMULATORS = {
    "psp-simulator": ("FULCRUM_PSP_LOG", "FULCRUM_PSP_URL"),
    "warehouse-simulator": ("FULCRUM_WAREHOUSE_LOG", "FULCRUM_WAREHOUSE_URL"),
    "courier-simulator": ("FULCRUM_COURIER_LOG", "FULCRUM_COURIER_URL"),
}
#: Every role.
ROLES = (*SIMULATORS, "intake", "agents", "projector", "payment", "inventory", "warehouse", "courier")

#: What a fresh set of servers lacks. The three touch different servers, so they run side by side.
STEPS = (("db", "migrate"), ("topics", "create"), ("schema", "register"))


@dataclass(frozen=True)
class Running:
    """What runs. ``env`` is what a client or a command-line tool needs to find it."""

    env: Mapping[str, str]
    supervisor: Supervisor

    @property
    def api(self) -> str:
        return self.supervisor.url("intake")


def prepare(env: Mapping[str, str], say: Say, log: Path, steps: Sequence[Sequence[str]] = STEPS) -> None:
    """Run each step (``fulcrum`` arguments) to its end; repeatable. StackError shows the first to fail."""
    began = time.monotonic()
    cancelled = threading.Event()
    log.parent.mkdir(parents=True, exist_ok=True)

    def run(step: Sequence[str]) -> None:
        mine = log.with_name(f"{log.stem}-{'-'.join(step)}{log.suffix}")
        mine.write_text("")
        process.run(
            f"fulcrum {' '.join(step)}",
            [sys.executable, "-m", "fulcrum", *step],
            log=mine,
            cancelled=cancelled,
            env={**os.environ, **env},
        )

    with ThreadPoolExecutor(max_workers=len(steps)) as pool:
        tasks = [pool.submit(run, step) for step in steps]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            cancelled.set()
            raise
    say(f"setup      {', '.join(' '.join(step) for step in steps)} ({time.monotonic() - began:.1f} s)")


def start_roles(supervisor: Supervisor, effects: Path | None = None) -> dict[str, RoleProcess]:
    """Start every role; the services learn where the simulators are, which keep what happened in ``effects``.

    None: they keep it in memory. The simulated courier learns where to send its webhooks.
    """
    # Both must know the secret, and the simulator the port of a role that is not started yet.
    port = supervisor.free_port()
    secret = os.environ.get("FULCRUM_WEBHOOK_SECRET") or secrets.token_hex(16)
    signed = {"FULCRUM_WEBHOOK_SECRET": secret}
    sent = {**signed, "FULCRUM_COURIER_WEBHOOK_URL": f"http://127.0.0.1:{port}/webhooks/courier"}
    found: dict[str, RoleProcess] = {}
    for role, (log, _) in SIMULATORS.items():
        kept = {log: str(effects / f"{role.removesuffix('-simulator')}-effects.log")} if effects else {}
        found[role] = supervisor.start(role, env={**kept, **(sent if role == "courier-simulator" else {})})
    outside = outside_world(found)
    for role in ROLES[len(SIMULATORS) :]:
        if role == "courier":
            found[role] = supervisor.start(role, env={**outside, **signed}, port=port)
        else:
            found[role] = supervisor.start(role, env=outside)
    return found


def outside_world(roles: Mapping[str, RoleProcess]) -> dict[str, str]:
    """Where the simulators are, as settings."""
    return {url: roles[role].url for role, (_, url) in SIMULATORS.items()}


def where(roles: Mapping[str, RoleProcess]) -> str:
    """FULCRUM_ROLES: where ``fulcrum health`` finds each role."""
    return ",".join(f"{name}={role.url}" for name, role in roles.items())


@contextmanager
def running(
    stack: Stack,
    *,
    say: Say,
    namespace: str | None = None,
    env: Mapping[str, str] | None = None,
    log: Log | None = None,
    started: Callable[[Running], None] | None = None,
    within: float = 60.0,
) -> Iterator[Running]:
    """Servers up, database, topics and schemas prepared, every role started and ready.

    At the end the roles are stopped, then the servers unless they ran before. ``env`` adds to what the roles
    and the preparation get (a database of one's own, other limits); ``namespace`` is FULCRUM_NAMESPACE;
    ``started`` is called once the addresses are known, before the roles are ready.
    """
    was_up = stack.running
    addresses = stack.up(say)
    try:
        mine = {**addresses, **(env or {})}
        if namespace:
            mine["FULCRUM_NAMESPACE"] = namespace
        # The effects of the outside world lie among the logs, and belong to one namespace alone.
        named = mine.get("FULCRUM_NAMESPACE") or os.environ.get("FULCRUM_NAMESPACE", "")
        logs = stack.home.path / "logs" / named
        prepare(mine, say, logs / "setup.log")
        began = time.monotonic()
        supervisor = Supervisor(mine, log, logs)
        try:
            roles = start_roles(supervisor, logs)
            found = Running(
                {
                    **mine,
                    "FULCRUM_API": roles["intake"].url,
                    **outside_world(roles),
                    "FULCRUM_ROLES": where(roles),
                },
                supervisor,
            )
            if started:
                started(found)
            supervisor.wait_ready(within)
            say(f"roles      {', '.join(ROLES)} ready ({time.monotonic() - began:.1f} s)")
            yield found
        finally:
            with undisturbed():
                supervisor.stop()
    finally:
        if not was_up:
            with undisturbed():
                stack.down(say)
