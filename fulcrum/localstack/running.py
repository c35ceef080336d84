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

#: Every role, the outside world first because the services must be told where it is.
ROLES = (
    "psp-simulator",
    "courier-simulator",
    "intake",
    "agents",
    "projector",
    "payment",
    "inventory",
    "courier",
)

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


def start_roles(supervisor: Supervisor, psp_log: Path | None = None) -> dict[str, RoleProcess]:
    """Start every role; the services learn where the outside world is, and the courier where to send news.

    The simulators keep their effects beside ``psp_log``; without it, in memory.
    """
    kept = {"FULCRUM_PSP_LOG": str(psp_log)} if psp_log else {}
    provider = supervisor.start("psp-simulator", env=kept)
    # Both must know the secret, and the simulator the port of a role that is not started yet.
    signed = {"FULCRUM_WEBHOOK_SECRET": os.environ.get("FULCRUM_WEBHOOK_SECRET") or secrets.token_hex(16)}
    port = supervisor.free_port()
    sent = {"FULCRUM_COURIER_WEBHOOK_URL": f"http://127.0.0.1:{port}/webhooks/courier"}
    kept = {"FULCRUM_COURIER_LOG": str(psp_log.with_name("courier-effects.log"))} if psp_log else {}
    courier = supervisor.start("courier-simulator", env={**kept, **signed, **sent})
    found = {provider.name: provider, courier.name: courier}
    outside = {"FULCRUM_PSP_URL": provider.url, "FULCRUM_COURIER_URL": courier.url}
    for role in ROLES[len(found) :]:
        if role == "courier":
            found[role] = supervisor.start(role, env={**outside, **signed}, port=port)
        else:
            found[role] = supervisor.start(role, env=outside)
    return found


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
        # The provider's effects lie among the logs, and belong to one namespace alone.
        named = mine.get("FULCRUM_NAMESPACE") or os.environ.get("FULCRUM_NAMESPACE", "")
        logs = stack.home.path / "logs" / named
        prepare(mine, say, logs / "setup.log")
        began = time.monotonic()
        supervisor = Supervisor(mine, log, logs)
        try:
            roles = start_roles(supervisor, logs / "psp-effects.log")
            found = Running(
                {
                    **mine,
                    "FULCRUM_API": roles["intake"].url,
                    "FULCRUM_PSP_URL": roles["psp-simulator"].url,
                    "FULCRUM_COURIER_URL": roles["courier-simulator"].url,
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
