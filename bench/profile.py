"""``python -m bench.profile``: where do the roles spend their time? A flame graph of each, under load.

It starts servers and roles on names of their own, which are removed at the end. py-spy looks into a process
from outside, so it needs the right to trace it: root, or ``kernel.yama.ptrace_scope = 0``.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.alone import alone
from bench.conditions import strain
from bench.figures import bounded, seconds
from bench.load import Ends, Generator
from bench.program import run
from fulcrum.cli.client import console
from fulcrum.doctor.invariants import settings_of
from fulcrum.errors import Misconfigured, Rejected
from fulcrum.localstack.home import Say
from fulcrum.localstack.running import ROLES, running
from fulcrum.saga.definitions import DEFAULT_DEFINITION, DEFINITIONS
from fulcrum.wire.codec import open_codec

_UNITS, _SKUS, _HERTZ = 1_000_000, 100, 200


@dataclass(frozen=True)
class Plan:
    """Which ``roles`` to watch for ``duration`` seconds, after ``warmup``, with so many ``users``."""

    roles: Sequence[str]
    users: int
    duration: float
    warmup: float
    definition: str
    folder: Path


def plan_of(arguments: Sequence[str]) -> Plan:
    """The plan that was asked for; Rejected when it is out of bounds."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("--role", action="append", help="which role; several times, all unless named")
    parser.add_argument("--users", type=int, default=32, help="users that never pause")
    parser.add_argument("--for", dest="duration", default="20s", help="how long, such as 20s")
    parser.add_argument("--warmup", default="20s", help="how long before that")
    parser.add_argument("--definition", default=DEFAULT_DEFINITION, help="which workflow")
    parser.add_argument("--out", type=Path, default=Path("profile"), help="folder of the graphs")
    given = parser.parse_args(arguments)
    roles = given.role or [role for role in ROLES if not role.endswith("-simulator")]
    if unknown := set(roles) - set(ROLES):
        raise Rejected(f"--role {min(unknown)!r} is unknown; one of {', '.join(ROLES)}")
    if given.definition not in DEFINITIONS:
        raise Rejected(f"--definition {given.definition!r} is unknown; one of {', '.join(DEFINITIONS)}")
    if not 1 <= given.users <= 1000:
        raise Rejected(f"--users {given.users}: give 1 to 1000")
    duration, warmup = seconds(given.duration), seconds(given.warmup)
    bounded(duration, warmup, None)
    return Plan(roles, given.users, duration, warmup, given.definition, given.out)


async def profile(plan: Plan, env: Mapping[str, str], pids: Mapping[str, int], say: Say) -> list[Path]:
    """Watch the roles of ``plan`` under load; returns the graphs. Misconfigured when that is not allowed."""
    spy = _spy()
    ends = Ends(env, await open_codec(settings_of(env)), asyncio.get_running_loop())
    generator = Generator(env["FULCRUM_API"], ends, _SKUS, plan.definition)
    try:
        await generator.stock(_UNITS)
        await generator.closed_loop(plan.users, plan.warmup)
        say(f"before     {strain()}")
        graphs = {role: plan.folder / f"{role}.svg" for role in plan.roles}
        with ExitStack() as opened:
            watching = [
                opened.enter_context(_watch(spy, pids[role], graph, plan.duration))
                for role, graph in graphs.items()
            ]
            load = await generator.closed_loop(plan.users, plan.duration)
            told = [await asyncio.to_thread(each.communicate) for each in watching]
    finally:
        await generator.close()
        await asyncio.to_thread(ends.close)
    say(f"workflows  {len(load.ended)} ended")
    for each, (_, error) in zip(watching, told, strict=True):
        if each.returncode:
            raise Misconfigured(f"py-spy could not look into a role: {error.strip().splitlines()[-1]}")
    return list(graphs.values())


def _spy() -> str:
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise Misconfigured("there is no py-spy; `make profile` installs it, or `pip install py-spy`")
    return found


def _watch(spy: str, pid: int, graph: Path, duration: float) -> subprocess.Popen[str]:
    """Samples all threads that hold the interpreter's lock or compute; an idle loop costs nothing."""
    argv = [spy, "record", "--pid", str(pid), "--output", str(graph), "--rate", str(_HERTZ)]
    argv += ["--duration", str(max(1, round(duration))), "--nonblocking"]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def main(arguments: Sequence[str]) -> int:
    """Run, and say where the graphs are."""
    out = console()
    plan = plan_of(arguments)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with alone(out.print) as own, running(own.stack, say=out.print, env=own.env) as found:
        pids = found.supervisor.processes()
        graphs = asyncio.run(profile(plan, found.env, pids, out.print))
    for graph in graphs:
        out.print(f"graph      {graph}", markup=False)
    return 0


if __name__ == "__main__":
    run("profile", main)
