"""``fulcrum bench``: load on the real stack, what it costs, and whether everything still holds."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlsplit
from uuid import uuid4

import typer
import uvloop
from rich.console import Console

from fulcrum.cli.client import show_json
from fulcrum.cli.interrupt import interruptible
from fulcrum.errors import Rejected
from fulcrum.localstack import Running, Stack, running
from fulcrum.localstack.postgres import create_database
from fulcrum.saga.definitions import DEFAULT_DEFINITION, DEFINITIONS


@dataclass
class System:
    """What is measured. ``keep``: leave its names on the servers, so that one can look into them."""

    env: Mapping[str, str]
    stack: Stack | None = None
    roles: Running | None = None
    keep: bool = field(default=False)

    def processes(self) -> dict[str, int]:
        """Every process of the stack, by name; none of a system that runs elsewhere."""
        if self.stack is None or self.roles is None:
            return {}
        servers = {status.name: status.pid for status in self.stack.status() if status.pid}
        return {**self.roles.supervisor.processes(), **servers}


def bench(
    rate: Annotated[float | None, typer.Option(help="Open loop: intents a second; 2000 at most.")] = None,
    users: Annotated[int | None, typer.Option(min=1, max=1000, help="Closed loop: how many users.")] = None,
    duration: Annotated[str, typer.Option("--for", help="How long, such as 30s; 10m at most.")] = "30s",
    warmup: Annotated[str, typer.Option(help="How long before anything is counted.")] = "5s",
    skus: Annotated[int, typer.Option("--sku-count", min=1, max=10_000, help="Over how many SKUs.")] = 100,
    definition: Annotated[str, typer.Option(help="Which workflow.")] = DEFAULT_DEFINITION,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure throughput, latency and cost; exit code 1 when an invariant is broken afterwards.

    Servers and roles are started for it, on names of their own that are removed at the end. With FULCRUM_API
    set, the system there is measured instead, without the cost of its processes.
    """
    from bench.figures import bounded, seconds
    from bench.report import tell
    from bench.run import Plan, failed, measure

    if (rate is None) == (users is None):
        raise Rejected("give either --rate (open loop) or --users (closed loop)")
    if definition not in DEFINITIONS:
        raise Rejected(f"--definition {definition!r} is unknown; one of {', '.join(DEFINITIONS)}")
    plan = Plan(rate, users, seconds(duration), seconds(warmup), skus, definition)
    bounded(plan.duration, plan.warmup, rate)
    console = Console(soft_wrap=True, highlight=False, stderr=json_output)
    with interruptible():
        try:
            with _system(console) as system:
                result = uvloop.run(measure(plan, system.env, system.processes))
                system.keep = bool(result["violations"])
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
    tell(result, console)
    if json_output:
        show_json(result)
    if reasons := failed(result):
        typer.echo(f"bench: {'; '.join(reasons)}", err=True)
        raise typer.Exit(1)


@contextmanager
def _system(console: Console) -> Iterator[System]:
    if "FULCRUM_API" in os.environ:
        yield System({"FULCRUM_NAMESPACE": "fulcrum", **os.environ})
        return
    stack = Stack()
    was_up = stack.running
    addresses = stack.up(console.print)
    namespace = f"bench-{uuid4().hex[:6]}"
    database = namespace.replace("-", "_")
    dsn = urlsplit(addresses["FULCRUM_POSTGRES_DSN"])._replace(path=f"/{database}").geturl()
    env = {"FULCRUM_POSTGRES_DSN": dsn, "FULCRUM_NAMESPACE": namespace, "FULCRUM_LOG_LEVEL": "warning"}
    system = System({**addresses, **env}, stack)
    try:
        create_database(addresses["FULCRUM_POSTGRES_DSN"], database)
        with running(stack, say=console.print, env=env) as found:
            system.env, system.roles = found.env, found
            yield system
    finally:
        _leave(system, console)
        if not was_up:
            stack.down(console.print)


def _leave(system: System, console: Console) -> None:
    from bench.leftovers import remove

    namespace = system.env["FULCRUM_NAMESPACE"]
    if system.keep:
        console.print(f"left for looking into: namespace {namespace}, {system.env['FULCRUM_POSTGRES_DSN']}")
        return
    for what in asyncio.run(remove(system.env)):
        console.print(f"could not remove from {namespace}: {what}", markup=False)
    if system.stack is not None:
        shutil.rmtree(system.stack.home.path / "logs" / namespace, ignore_errors=True)
